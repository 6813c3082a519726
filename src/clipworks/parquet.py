"""Parquet files of results; pyarrow is imported here only, on first use."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

from clipworks.errors import UsageError
from clipworks.results import Prediction, Record, ResultsError

# Records in a row group: what is held in memory while a file is written or read.
_GROUP = 8192


def require_pyarrow() -> None:
    """Raise UsageError where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet needs the package pyarrow", hint="pip install 'clipworks[parquet]'")


def write_parquet(path: str, records: Iterable[Record]) -> None:
    """Write records to a Parquet file, a group at a time; the file is at ``path`` when all of it is on the disk.

    Columns: index, path, truth (null where unknown), error (null where none), and the lists ids, scores, names.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("index", pa.int64()),
            ("path", pa.string()),
            ("truth", pa.int32()),
            ("error", pa.string()),
            ("ids", pa.list_(pa.int32())),
            ("scores", pa.list_(pa.float64())),
            ("names", pa.list_(pa.string())),
        ]
    )
    part = f"{path}.part"
    with open(part, "wb") as stream:  # noqa: PTH123  # pyarrow takes the open file, which is synced below
        with pq.ParquetWriter(stream, schema) as writer:
            for group in _group(records):
                columns: dict[str, list[Any]] = {
                    "index": [record.index for record in group],
                    "path": [_clean(record.path) for record in group],
                    "truth": [record.truth for record in group],
                    "error": [None if record.error is None else _clean(record.error) for record in group],
                    "ids": [[item.id for item in record.top] for record in group],
                    "scores": [[item.score for item in record.top] for record in group],
                    "names": [[item.name for item in record.top] for record in group],
                }
                writer.write_table(pa.table(columns, schema=schema))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)  # noqa: PTH105  # plain strings throughout


def read_parquet(path: str) -> Iterator[Record]:
    """Read the records of a Parquet file; raises ResultsError where it is none of ours."""
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_GROUP):
                for row in batch.to_pylist():
                    top = zip(row["ids"], row["scores"], row["names"], strict=True)
                    yield Record(
                        index=row["index"],
                        path=row["path"],
                        truth=row["truth"],
                        error=row["error"],
                        top=tuple(Prediction(id=place, score=score, name=name) for place, score, name in top),
                    )
    except (pa.ArrowException, KeyError) as error:
        raise ResultsError(f"{path} holds no results: {str(error).splitlines()[0]}") from None


def _group(records: Iterable[Record]) -> Iterator[list[Record]]:
    source = iter(records)
    while group := list(itertools.islice(source, _GROUP)):
        yield group


def _clean(text: str) -> str:
    r"""Parquet's strings are UTF-8: bytes of a file name that are not are written as ``\xff``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
