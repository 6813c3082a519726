"""Parquet files of results; pyarrow is imported here only, on first use."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from clipworks.datasets.locations import write_whole
from clipworks.errors import ResultsError, UsageError
from clipworks.results.json_lines import round_score
from clipworks.results.records import EmbeddingRecord, Prediction, Record

R = TypeVar("R", Record, EmbeddingRecord)

# Records in a row group: what is held in memory while a file is written or read.
_GROUP = 8192


def require_pyarrow() -> None:
    """Raise UsageError where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet needs the package pyarrow", hint="pip install 'clipworks[parquet]'")


def write_parquet(path: str, records: Iterable[R], tabulate: Callable[[Sequence[R]], Any]) -> None:
    """Write records to a Parquet file, a group at a time; the file is at ``path`` when all of it is on the disk."""
    import pyarrow.parquet as pq

    source = iter(records)
    with write_whole(path) as stream, pq.ParquetWriter(stream, tabulate([]).schema) as writer:
        while group := list(itertools.islice(source, _GROUP)):
            writer.write_table(tabulate(group))


def tabulate_records(records: Sequence[Record]) -> Any:
    """The table of some records: index, path, truth and error (null for none), and the lists ids, scores, names."""
    import pyarrow as pa

    top = [record.top for record in records]
    columns: dict[str, tuple[Any, list[Any]]] = {
        "index": (pa.int64(), [record.index for record in records]),
        "path": (pa.string(), [_clean(record.path) for record in records]),
        "truth": (pa.int32(), [record.truth for record in records]),
        "error": (pa.string(), [_clean(record.error) for record in records]),
        "ids": (pa.list_(pa.int32()), [[item.id for item in items] for items in top]),
        "scores": (pa.list_(pa.float64()), [[round_score(item.score) for item in items] for items in top]),
        "names": (pa.list_(pa.string()), [[item.name for item in items] for items in top]),
    }
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})


def read_parquet(path: str) -> Iterator[Record]:
    """Read the records of a Parquet file; raises ResultsError where it is none of ours."""
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_GROUP):
                yield from list_records(batch)
    except (pa.ArrowException, KeyError) as error:
        raise ResultsError(f"{path} holds no results: {str(error).splitlines()[0]}") from None


def list_records(batch: Any, *, first: int | None = None) -> Iterator[Record]:
    """The records of a ``pyarrow.RecordBatch`` as `tabulate_records` lays them out; raises KeyError for another.

    They are numbered from ``first``, or as they stand there.
    """
    for offset, row in enumerate(batch.to_pylist()):
        top = zip(row["ids"], row["scores"], row["names"], strict=True)
        yield Record(
            index=row["index"] if first is None else first + offset,
            path=row["path"],
            truth=row["truth"],
            error=row["error"],
            top=tuple(Prediction(id=place, score=score, name=name) for place, score, name in top),
        )


def tabulate_embeddings(records: Sequence[EmbeddingRecord], dim: int) -> Any:
    """The table of some embeddings of ``dim`` numbers: index, path, truth, error, embedding (null for an error)."""
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("path", "truth", "error")]
    schema = pa.schema([("index", pa.int64()), *texts, ("embedding", pa.list_(pa.float32(), dim))])
    rows = np.concatenate([np.empty(0, np.float32), *(record.row for record in records if record.row is not None)])
    failed = np.array([record.error is not None for record in records], dtype=bool)
    columns: list[Any] = [
        [record.index for record in records],
        [_clean(record.path) for record in records],
        [_clean(record.truth) for record in records],
        [_clean(record.error) for record in records],
        pa.FixedSizeListArray.from_arrays(rows, dim, mask=pa.array(failed)),
    ]
    return pa.table(columns, schema=schema)


def count_errors(path: str) -> int:
    """The number of rows of a file that have an error."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return sum(len(batch) - batch.column(0).null_count for batch in file.iter_batches(_GROUP, columns=["error"]))


def _clean(text: str | None) -> str | None:
    r"""Parquet's strings are UTF-8: bytes of a file name that are not are written as ``\xff``."""
    return None if text is None else os.fsencode(text).decode("utf-8", "backslashreplace")
