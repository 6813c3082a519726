"""Comma-separated values: a line a row; the end of a line within a name is spelled out, so that it stays one."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from clipworks.errors import ResultsError
from clipworks.results.json_lines import round_score
from clipworks.results.records import Extent, Prediction, Record, RunSize

_COLUMNS = ("index", "path", "truth", "rank", "id", "score", "name", "error")
_FIRST_RANK = 1


def encode_cells(cells: Iterable[object]) -> bytes:
    """One line, its cells quoted where need be, None as an empty one; bytes of a name that are no UTF-8 stay."""
    stream = io.StringIO()
    spelled = (cell.replace("\r", "\\r").replace("\n", "\\n") if isinstance(cell, str) else cell for cell in cells)
    csv.writer(stream, lineterminator="\n").writerow(spelled)
    return os.fsencode(stream.getvalue())


HEADER = encode_cells(_COLUMNS)


def make_csv_header(size: RunSize) -> bytes:  # noqa: ARG001  # the form of `GrowingFile.header`
    """The names of the columns."""
    return HEADER


def encode_csv(record: Record) -> bytes:
    """One line a class, best first, or one line with the error; scores have six significant digits."""
    known = (record.index, record.path, record.truth)
    if record.error is not None:
        return encode_cells((*known, None, None, None, None, record.error))
    return b"".join(
        encode_cells((*known, rank, item.id, round_score(item.score), item.name, None))
        for rank, item in enumerate(record.top, _FIRST_RANK)
    )


def decode_csv(path: str) -> Iterator[Record]:
    """Read the records of such a file; raises ResultsError that says which line is none."""
    current: Record | None = None
    with Path(path).open("rb") as stream:
        next(stream, None)  # the names of the columns, by which it was told
        for number, line in enumerate(stream, 2):
            try:
                found = _decode_line(line)
            except ValueError as error:
                raise ResultsError(f"{path}, line {number}, is no result: {error}") from None
            if current is not None and current.index == found.index:
                found = Record(
                    index=found.index,
                    path=found.path,
                    truth=found.truth,
                    top=(*current.top, *found.top),
                    error=found.error,
                )
            elif current is not None:
                yield current
            current = found
    if current is not None:
        yield current


def scan_csv(stream: BinaryIO, size: RunSize) -> Iterator[Extent]:
    """Find whole records: for each index from 0 on ``size.top`` lines of ranks from 1 on, or one of an error."""
    if stream.readline() != HEADER:
        return
    end, index, rank = len(HEADER), 0, _FIRST_RANK
    for line in stream:
        if not line.endswith(b"\n") or b"\0" in line:
            return
        end += len(line)
        try:
            cells = _split(line)
        except ValueError:
            return
        failed = cells["rank"] == ""
        if cells["index"] != str(index) or (rank != _FIRST_RANK if failed else cells["rank"] != str(rank)):
            return
        rank += 1
        if failed or rank == _FIRST_RANK + size.top:
            index, rank = index + 1, _FIRST_RANK
            yield Extent(end, failed=failed)


def _split(line: bytes) -> dict[str, str]:
    cells = next(csv.reader([os.fsdecode(line)]), [])
    if len(cells) != len(_COLUMNS):
        raise ValueError(f"it has {len(cells)} cells, not {len(_COLUMNS)}")
    return dict(zip(_COLUMNS, cells, strict=True))


def _decode_line(line: bytes) -> Record:
    cells = _split(line)
    top = () if cells["error"] else (_decode_prediction(cells),)
    return Record(
        index=int(cells["index"]),
        path=cells["path"],
        truth=int(cells["truth"]) if cells["truth"] else None,
        top=top,
        error=cells["error"] or None,
    )


def _decode_prediction(cells: dict[str, str]) -> Prediction:
    return Prediction(id=int(cells["id"]), score=float(cells["score"]), name=cells["name"] or None)
