"""JSON lines: one object a record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from clipworks.errors import ResultsError
from clipworks.results.records import EmbeddingRecord, Extent, Prediction, Record, RunSize


def encode_json(record: Record) -> bytes:
    """One line of JSON; scores have six significant digits."""
    values: dict[str, Any] = {"index": record.index, "path": record.path}
    if record.truth is not None:
        values["truth"] = record.truth
    if record.error is None:
        values["top"] = [
            {"id": item.id, "score": round_score(item.score)} | ({} if item.name is None else {"name": item.name})
            for item in record.top
        ]
    else:
        values["error"] = record.error
    return _encode_line(values)


def encode_embedding(record: EmbeddingRecord) -> bytes:
    """One line of JSON of what an embedding is of."""
    return _encode_line(_describe_embedding(record))


def encode_vector(record: EmbeddingRecord) -> bytes:
    """One line of JSON of an embedding and what it is of; nine digits give each float32 again."""
    values = _describe_embedding(record)
    if record.error is None and record.row is not None:
        values["embedding"] = [float(f"{value:.9g}") for value in record.row.tolist()]
    return _encode_line(values)


def _describe_embedding(record: EmbeddingRecord) -> dict[str, Any]:
    values: dict[str, Any] = {"index": record.index, "path": record.path}
    known = {"truth": record.truth, "error": record.error}
    return values | {name: value for name, value in known.items() if value is not None}


def round_score(score: float) -> float:
    """A score with the six significant digits that results keep."""
    return float(f"{score:.6g}")


def decode_json(path: str) -> Iterator[Record]:
    """Read lines of JSON; raises ResultsError that says which line is no record."""
    with Path(path).open("rb") as stream:
        for number, line in enumerate(stream, 1):
            yield _decode_line(line, f"{path}, line {number},")


def scan_json(stream: BinaryIO, size: RunSize) -> Iterator[Extent]:  # noqa: ARG001  # the form of `GrowingFile.scan`
    """Find whole records; JSON escapes quotes within texts, so that the keys are seen as they stand."""
    end = 0
    for index, line in enumerate(stream):
        # Zeros: pages that a power failure has kept from the disk.
        if not line.startswith(b'{"index":%d,' % index) or not line.endswith(b"}\n") or b"\0" in line:
            return
        end += len(line)
        yield Extent(end, b',"error":"' in line)


def _encode_line(values: dict[str, Any]) -> bytes:
    line = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    try:
        return line.encode() + b"\n"
    except UnicodeEncodeError:  # a file name that is no UTF-8
        return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _decode_line(line: bytes, where: str) -> Record:
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
        raise ResultsError(
            f"{where} is no result: {error}", hint="if its run was ended early, the same command completes it"
        ) from None
