"""The text of the vendor's CLIP sample: one line a prediction, and lines of our own for errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clipworks.errors import ResultsError
from clipworks.results.records import Extent, Prediction, Record, RunSize

# The vendor sample's line. The file's name may hold anything, so the last place that fits is the one.
_TEXT_LINE = re.compile(
    r"(?P<file>.*): top-(?P<rank>\d+) id: (?P<id>\d+), prob: (?P<prob>[-+.\deE]+|nan), class name: (?P<name>.*)",
    re.DOTALL,
)
# The sample counts ranks from 0.
_FIRST_RANK = 0
_TEXT_ERROR = re.compile(r"(?P<file>.*?): error: (?P<reason>.*)", re.DOTALL)


def encode_text(record: Record) -> bytes:
    """The vendor sample's lines, one a prediction; an error is one line ``{file}: error: {reason}``."""
    path = _fold_lines(record.path)
    if record.error is not None:
        return os.fsencode(f"{path}: error: {_fold_lines(record.error)}\n")
    lines = (
        f"{path}: top-{rank} id: {item.id}, prob: {float(f'{item.score:.6g}')}, "
        f"class name: {_fold_lines(item.name or '')}\n"
        for rank, item in enumerate(record.top, _FIRST_RANK)
    )
    return os.fsencode("".join(lines))


def decode_text(path: str) -> Iterator[Record]:
    """Read the vendor sample's lines: an image ends where the ranks begin again, or another file's name stands."""
    index, image, last = 0, "", 0
    top: list[Prediction] = []
    with Path(path).open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            line = os.fsdecode(raw).rstrip("\r\n")
            if not line.strip():
                continue
            match = _TEXT_LINE.fullmatch(line)
            error = None if match else _TEXT_ERROR.fullmatch(line)
            if match is None and error is None:
                raise ResultsError(
                    f"{path}, line {number}, is no result: {line[:80]!r}; allowed: what clipworks classify writes "
                    "(JSON lines, CSV, Parquet), or lines of the sample: {file}: top-{i} id: {id}, prob: {p}, class "
                    "name: {name}"
                )
            if top and (match is None or int(match["rank"]) <= last or match["file"] != image):
                yield Record(index=index, path=image, top=tuple(top))
                index, top = index + 1, []
            if match:
                image, last = match["file"], int(match["rank"])
                top.append(Prediction(id=int(match["id"]), score=float(match["prob"]), name=match["name"]))
            elif error:
                yield Record(index=index, path=error["file"], error=error["reason"])
                index += 1
    if top:
        yield Record(index=index, path=image, top=tuple(top))


def scan_text(stream: BinaryIO, size: RunSize) -> Iterator[Extent]:
    """Find whole records: ``size.top`` lines of ranks from 0 on, or one line of an error."""
    end, rank = 0, _FIRST_RANK
    for raw in stream:
        line = os.fsdecode(raw)
        if not line.endswith("\n") or "\0" in line:
            return
        end += len(raw)
        match = _TEXT_LINE.fullmatch(line[:-1])
        if match is None:
            if rank > _FIRST_RANK or not _TEXT_ERROR.fullmatch(line[:-1]):
                return
            yield Extent(end, failed=True)
            continue
        if int(match["rank"]) != rank:
            return
        rank += 1
        if rank == _FIRST_RANK + size.top:
            rank = _FIRST_RANK
            yield Extent(end, failed=False)


def _fold_lines(text: str) -> str:
    r"""A line of text cannot hold a line's end; it is written as ``\n``."""
    return text.replace("\r", "\\r").replace("\n", "\\n")
