"""Results: one record a picture, and the formats that hold them: JSON lines, Parquet, and the vendor sample's text."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from clipworks.errors import ClipworksError, UsageError, unknown_name


class ResultsError(ClipworksError):
    """A results file cannot be read or written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One class that a picture may be of.

    Attributes:
        id: the class's place among the labels; it is the class's identity.
        score: softmax probability over all labels.
        name: the label, for people.
    """

    id: int
    score: float
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a run found for one picture.

    Attributes:
        index: the picture's place in the data set.
        path: as the data set gives it.
        truth: the class that it is of, where known.
        top: the best classes, best first; empty for an error.
        error: why the picture has no classes, or None.
    """

    index: int
    path: str
    truth: int | None = None
    top: tuple[Prediction, ...] = ()
    error: str | None = None


class Extent(NamedTuple):
    """Where one whole record of a journal ends, and whether it is an error."""

    end: int
    failed: bool


class Format(NamedTuple):
    """How records stand in a file: the endings that mean it, how one is written, and how whole ones are found again.

    ``scan`` takes a file and the number of predictions in a record, and stops before the first line that this format
    would not have written there.
    """

    suffixes: tuple[str, ...]
    encode: Callable[[Record], bytes]
    scan: Callable[[BinaryIO, int], Iterator[Extent]]


def choose_format(name: str | None, output: str | os.PathLike[str]) -> str:
    """The format of a name, or by the ending of the output's name, or JSON lines.

    Raises:
        UnknownNameError: no format of this name.
        UsageError: Parquet, and its package is not installed.
    """
    if name is not None and name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    suffix = Path(output).suffix.lower()
    chosen = name or next((key for key, row in FORMATS.items() if suffix in row.suffixes), "jsonl")
    if chosen == "parquet":
        from clipworks.parquet import require_pyarrow

        require_pyarrow()
    return chosen


def encode_json(record: Record) -> bytes:
    """One line of JSON; scores have six significant digits."""
    values: dict[str, Any] = {"index": record.index, "path": record.path}
    if record.truth is not None:
        values["truth"] = record.truth
    if record.error is None:
        values["top"] = [
            {"id": item.id, "score": float(f"{item.score:.6g}")} | ({} if item.name is None else {"name": item.name})
            for item in record.top
        ]
    else:
        values["error"] = record.error
    line = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    try:
        return line.encode() + b"\n"
    except UnicodeEncodeError:  # a file name that is no UTF-8
        return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def decode_json(line: bytes, where: str) -> Record:
    """Read one line of JSON; raises ResultsError that says where it stands."""
    try:
        values = json.loads(line)
        top = tuple(
            Prediction(id=int(item["id"]), score=float(item["score"]), name=item.get("name"))
            for item in values.get("top", ())
        )
        truth = values.get("truth")
        error = values.get("error")
        if error is None and "top" not in values:
            raise KeyError("top")
        return Record(
            index=int(values["index"]),
            path=str(values["path"]),
            truth=None if truth is None else int(truth),
            top=top,
            error=None if error is None else str(error),
        )
    except KeyError as error:
        raise ResultsError(f"{where} is no result: it has no {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ResultsError(f"{where} is no result: {error}") from None


def scan_json(stream: BinaryIO, top: int) -> Iterator[Extent]:  # noqa: ARG001  # the form of `Format.scan`
    """Find whole records; JSON escapes quotes within texts, so that the keys are seen as they stand."""
    end = 0
    for index, line in enumerate(stream):
        # Zeros: pages that a power failure has kept from the disk.
        if not line.startswith(b'{"index":%d,' % index) or not line.endswith(b"}\n") or b"\0" in line:
            return
        end += len(line)
        yield Extent(end, b',"error":"' in line)


# The vendor sample's line. The file's name may hold anything, so the last place that fits is the one.
_TEXT_LINE = re.compile(
    r"(?P<file>.*): top-(?P<rank>\d+) id: (?P<id>\d+), prob: (?P<prob>[-+.\deE]+|nan), class name: (?P<name>.*)",
    re.DOTALL,
)
_TEXT_ERROR = re.compile(r"(?P<file>.*?): error: (?P<reason>.*)", re.DOTALL)


def encode_text(record: Record) -> bytes:
    """The vendor sample's lines, one a prediction; an error is one line ``{file}: error: {reason}``."""
    path = _fold_lines(record.path)
    if record.error is not None:
        return os.fsencode(f"{path}: error: {_fold_lines(record.error)}\n")
    lines = (
        f"{path}: top-{rank} id: {item.id}, prob: {float(f'{item.score:.6g}')}, "
        f"class name: {_fold_lines(item.name or '')}\n"
        for rank, item in enumerate(record.top, 1)
    )
    return os.fsencode("".join(lines))


def decode_text(lines: Iterable[bytes], origin: str) -> Iterator[Record]:
    """Read the vendor sample's lines: a picture ends where the ranks begin again, or another file's name stands."""
    index, path, last = 0, "", 0
    top: list[Prediction] = []
    for number, raw in enumerate(lines, 1):
        line = os.fsdecode(raw).rstrip("\r\n")
        if not line.strip():
            continue
        match = _TEXT_LINE.fullmatch(line)
        error = None if match else _TEXT_ERROR.fullmatch(line)
        if match is None and error is None:
            raise ResultsError(
                f"{origin}, line {number}, is no result: {line[:80]!r}; allowed: "
                "{file}: top-{i} id: {id}, prob: {p}, class name: {name}"
            )
        if top and (match is None or int(match["rank"]) <= last or match["file"] != path):
            yield Record(index=index, path=path, top=tuple(top))
            index, top = index + 1, []
        if match:
            path, last = match["file"], int(match["rank"])
            top.append(Prediction(id=int(match["id"]), score=float(match["prob"]), name=match["name"]))
        elif error:
            yield Record(index=index, path=error["file"], error=error["reason"])
            index += 1
    if top:
        yield Record(index=index, path=path, top=tuple(top))


def scan_text(stream: BinaryIO, top: int) -> Iterator[Extent]:
    """Find whole records: ``top`` lines of ranks from 1 on, or one line of an error."""
    end, rank = 0, 0
    for raw in stream:
        line = os.fsdecode(raw)
        if not line.endswith("\n") or "\0" in line:
            return
        end += len(raw)
        match = _TEXT_LINE.fullmatch(line[:-1])
        if match is None:
            if rank or not _TEXT_ERROR.fullmatch(line[:-1]):
                return
            yield Extent(end, failed=True)
            continue
        rank += 1
        if int(match["rank"]) != rank:
            return
        if rank == top:
            rank = 0
            yield Extent(end, failed=False)


# Parquet cannot be appended to: records are kept as JSON lines until all are there; see `clipworks.parquet`.
FORMATS: dict[str, Format] = {
    "jsonl": Format((".jsonl", ".ndjson"), encode_json, scan_json),
    "text": Format((".txt",), encode_text, scan_text),
    "parquet": Format((".parquet",), encode_json, scan_json),
}


def read_results(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Read a results file of any format, told by its content, record by record.

    Raises:
        UsageError: it does not exist.
        ResultsError: it cannot be read, holds no results, or ends within one.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as stream:
            start = stream.read(4)
            stream.seek(0)
            if start == b"PAR1":
                from clipworks.parquet import read_parquet

                yield from read_parquet(name)
            elif start[:1] == b"{":
                for number, line in enumerate(stream, 1):
                    yield decode_json(line, f"{name}, line {number},")
            else:
                yield from decode_text(stream, name)
    except FileNotFoundError:
        raise UsageError(f"{name} does not exist; allowed: a results file of clipworks classify") from None
    except OSError as error:
        raise ResultsError(f"{name} cannot be read: {error.strerror or error}") from None


def _fold_lines(text: str) -> str:
    r"""A line of text cannot hold a line's end; it is written as ``\n``."""
    return text.replace("\r", "\\r").replace("\n", "\\n")
