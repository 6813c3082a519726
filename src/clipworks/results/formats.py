"""Formats: how the records of a run stand in files. One row a format; to add one, write its module and its row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import numpy as np

from clipworks.endings import choose_by_ending
from clipworks.errors import ResultsError, UsageError, unknown_name
from clipworks.results.arrays import encode_row, make_header, scan_rows
from clipworks.results.csv_rows import HEADER, decode_csv, encode_csv, make_csv_header, scan_csv
from clipworks.results.json_lines import decode_json, encode_embedding, encode_json, encode_vector, scan_json
from clipworks.results.parquet import (
    count_errors,
    read_parquet,
    require_pyarrow,
    tabulate_embeddings,
    tabulate_records,
    write_parquet,
)
from clipworks.results.records import EmbeddingRecord, Extent, Record, RunSize
from clipworks.results.shards import is_shard_folder, read_shards
from clipworks.results.vendor_text import decode_text, encode_text, scan_text

R = TypeVar("R", Record, EmbeddingRecord)
# Bytes that tell a format.
_START = 64


@dataclass(frozen=True, kw_only=True)
class GrowingFile(Generic[R]):
    """A file that grows record by record."""

    suffix: str  # added to the output's name
    encode: Callable[[R], bytes]  # the bytes that are appended for one record
    # finds whole records again, and stops before the first bytes that would not have been written there
    scan: Callable[[BinaryIO, RunSize], Iterator[Extent]]
    header: Callable[[RunSize], bytes] = lambda _: b""  # what the file begins with


@dataclass(frozen=True, kw_only=True)
class Format(Generic[R]):
    """How records stand in a file or folder."""

    encode: Callable[[R], bytes]  # as of `GrowingFile`: the one that records are appended to
    scan: Callable[[BinaryIO, RunSize], Iterator[Extent]]  # as of `GrowingFile`
    # reads a finished output; None for one that is read by other programs alone
    decode: Callable[[str], Iterator[R]] | None = None
    endings: tuple[str, ...] = ()  # those of an output's name that mean this format
    begins: bytes = b""  # the first bytes of every finished output, by which it is told
    folder: str | None = None  # what is in the folder that is written, for messages; None where the output is a file
    header: Callable[[RunSize], bytes] = lambda _: b""  # as of `GrowingFile`
    records: str = ""  # added to the output's name: the file that records are appended to
    beside: GrowingFile[R] | None = None  # the file that grows beside it, or None
    # added to the output's name: the file that is made in the end, of what cannot be appended to; or None
    whole: str | None = None
    # makes it; takes the output's name and the size of the run
    convert: Callable[[str, RunSize], None] = lambda _output, _size: None
    count_errors: Callable[[str], int] = lambda _path: 0  # counts the records with an error in it
    require: Callable[[], None] = lambda: None  # raises UsageError where a package is missing

    @property
    def manifest(self) -> str:
        """What is added to the output's name for the manifest."""
        return "/run.json" if self.folder else ".run.json"

    @property
    def grows(self) -> tuple[GrowingFile[R], ...]:
        """The files that grow, in the order in which a block is appended to them."""
        records = GrowingFile(suffix=self.records, encode=self.encode, scan=self.scan, header=self.header)
        return (records,) if self.beside is None else (self.beside, records)


def _convert_records(output: str, size: RunSize) -> None:  # noqa: ARG001  # the form of `Format.convert`
    write_parquet(output, decode_json(f"{output}.journal"), tabulate_records)


def _convert_embeddings(output: str, size: RunSize) -> None:
    rows = np.load(f"{output}/embeddings.npy", mmap_mode="r")
    with Path(f"{output}/records.jsonl").open("rb") as stream:
        records = (EmbeddingRecord(**json.loads(line), row=rows[index]) for index, line in enumerate(stream))
        write_parquet(f"{output}/embeddings.parquet", records, lambda group: tabulate_embeddings(group, size.dim))


# What `classify` writes on one machine; on Ray it is shards. The last one is what is none of the others.
FORMATS: dict[str, Format[Record]] = {
    "jsonl": Format(endings=(".jsonl", ".ndjson"), encode=encode_json, scan=scan_json, decode=decode_json, begins=b"{"),
    # It cannot be appended to: records are kept as JSON lines until all are there.
    "parquet": Format(
        endings=(".parquet",),
        encode=encode_json,
        scan=scan_json,
        decode=read_parquet,
        begins=b"PAR1",
        records=".journal",
        whole="",
        convert=_convert_records,
        count_errors=count_errors,
        require=require_pyarrow,
    ),
    "csv": Format(
        endings=(".csv",), encode=encode_csv, scan=scan_csv, decode=decode_csv, begins=HEADER, header=make_csv_header
    ),
    "text": Format(endings=(".txt",), encode=encode_text, scan=scan_text, decode=decode_text),
}
# What `embed` writes to an open file: a record and its embedding are one line.
VECTORS = GrowingFile(suffix="", encode=encode_vector, scan=scan_json)
_ROWS = GrowingFile(suffix="/embeddings.npy", header=make_header, encode=encode_row, scan=scan_rows)
# What `embed` writes on one machine.
EMBEDDING_FORMATS: dict[str, Format[EmbeddingRecord]] = {
    "npy": Format(
        folder="embeddings.npy and records.jsonl",
        encode=encode_embedding,
        scan=scan_json,
        records="/records.jsonl",
        beside=_ROWS,
    ),
    "parquet": Format(
        folder="embeddings.parquet",
        encode=encode_embedding,
        scan=scan_json,
        records="/records.jsonl",
        beside=_ROWS,
        whole="/embeddings.parquet",
        convert=_convert_embeddings,
        count_errors=count_errors,
        require=require_pyarrow,
    ),
}


def choose_format(name: str | None, output: str | os.PathLike[str]) -> str:
    """The format of a name; else by the ending of the output's name; else, where that has none, JSON lines.

    Raises as `find_format`, and UsageError where the ending means another format.
    """
    chosen = name or choose_by_ending(os.fspath(output), list_endings(), default="jsonl")
    find_format(FORMATS, chosen)
    return chosen


def choose_stream(name: str | None) -> GrowingFile[Record]:
    """How records are written to an open file in the format of a name, or as JSON lines; raises as `find_format`.

    Raises UsageError also for a format of whole files.
    """
    row = find_format(FORMATS, name or "jsonl")
    if row.whole is not None:
        allowed = ", ".join(other for other, one in FORMATS.items() if one.whole is None)
        raise UsageError(f"{name} is a format of whole files; allowed in a stream: {allowed}")
    return row.grows[-1]


def find_format(table: Mapping[str, Format[R]], name: str) -> Format[R]:
    """The row of a name; raises UnknownNameError, and UsageError where a package is not installed."""
    if name not in table:
        raise unknown_name("format", name, table)
    table[name].require()
    return table[name]


def list_endings() -> dict[str, tuple[str, ...]]:
    """Each format with the endings that mean it."""
    return {name: row.endings for name, row in FORMATS.items()}


def read_results(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Read results of any format, told by their content, record by record: a file, or a folder of shards or its URL.

    Raises UsageError where it does not exist, ResultsError where it cannot be read or is not results to its end.
    """
    name = os.fspath(path)
    if is_shard_folder(name):
        yield from read_shards(name)
        return
    try:
        with Path(name).open("rb") as stream:
            start = stream.read(_START)
        for row in FORMATS.values():
            if row.decode is not None and start.startswith(row.begins):
                yield from row.decode(name)
                return
    except FileNotFoundError:
        raise UsageError(f"{name} does not exist; allowed: a results file of clipworks classify") from None
    except OSError as error:
        raise ResultsError(f"{name} cannot be read: {error.strerror or error}") from None
