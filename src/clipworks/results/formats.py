"""Results: one record a picture, and the formats that hold them: JSON lines, Parquet, and the vendor sample's text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from clipworks.endings import choose_by_ending
from clipworks.errors import UsageError, unknown_name
from clipworks.results.records import Extent, Prediction, Record, ResultsError
from clipworks.results.shards import is_shard_folder, read_shards
from clipworks.results.vendor_text import decode_text, encode_text, scan_text


class Format(NamedTuple):
    """How records stand in a file: the endings that mean it, how one is written, and how whole ones are found again.

    ``scan`` takes a file and the number of predictions in a record, and stops before the first line that this format
    would not have written there.
    """

    suffixes: tuple[str, ...]
    encode: Callable[[Record], bytes]
    scan: Callable[[BinaryIO, int], Iterator[Extent]]


def choose_format(name: str | None, output: str | os.PathLike[str]) -> str:
    """The format of a name; else by the ending of the output's name; else, where that has none, JSON lines.

    Raises:
        UnknownNameError: no format of this name.
        UsageError: the ending means another format, or Parquet's package is not installed.
    """
    if name is not None and name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    chosen = name or choose_by_ending(os.fspath(output), list_endings(), default="jsonl")
    if chosen == "parquet":
        from clipworks.results.parquet import require_pyarrow

        require_pyarrow()
    return chosen


def list_endings() -> dict[str, tuple[str, ...]]:
    """Each format with the endings that mean it."""
    return {name: row.suffixes for name, row in FORMATS.items()}


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
    return encode_line(values)


def round_score(score: float) -> float:
    """A score with the six significant digits that results keep."""
    return float(f"{score:.6g}")


def encode_line(values: dict[str, Any]) -> bytes:
    """One line of JSON of a record's values."""
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
        raise ResultsError(
            f"{where} is no result: {error}", hint="if its run was ended early, the same command completes it"
        ) from None


def scan_json(stream: BinaryIO, top: int) -> Iterator[Extent]:  # noqa: ARG001  # the form of `Format.scan`
    """Find whole records; JSON escapes quotes within texts, so that the keys are seen as they stand."""
    end = 0
    for index, line in enumerate(stream):
        # Zeros: pages that a power failure has kept from the disk.
        if not line.startswith(b'{"index":%d,' % index) or not line.endswith(b"}\n") or b"\0" in line:
            return
        end += len(line)
        yield Extent(end, b',"error":"' in line)


# Parquet cannot be appended to: records are kept as JSON lines until all are there; see `clipworks.results.parquet`.
FORMATS: dict[str, Format] = {
    "jsonl": Format((".jsonl", ".ndjson"), encode_json, scan_json),
    "text": Format((".txt",), encode_text, scan_text),
    "parquet": Format((".parquet",), encode_json, scan_json),
}


def read_results(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Read results of any format, told by their content, record by record: a file, or a folder of shards or its URL.

    Raises:
        UsageError: it does not exist.
        ResultsError: it cannot be read, holds no results, or ends within one.
    """
    name = os.fspath(path)
    if is_shard_folder(name):
        yield from read_shards(name)
        return
    try:
        with Path(name).open("rb") as stream:
            start = stream.read(4)
            stream.seek(0)
            if start == b"PAR1":
                from clipworks.results.parquet import read_parquet

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
