"""Collecting: rows come from Ray in any order and leave as whole shards."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

from clipworks.results.shards import Shard, write_shard

# Shards written at once: an object store takes its time, and what waits is held in memory.
_WRITERS = 4


@dataclass
class _GatheredShard:
    """What has come of one shard."""

    tables: list[Any] = field(default_factory=list)
    rows: int = 0
    size: int | None = None


class Collector:
    """Gathers the rows of each shard and writes it when it is whole."""

    def __init__(self, folder: str) -> None:
        self.rows = 0  # images that have come
        self.failed = 0  # how many of them are errors
        self.finished: list[Shard] = []  # those that are written
        self._folder = folder
        self._parts: dict[int, _GatheredShard] = {}
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="write")
        self._writing: deque[Future[Shard]] = deque()

    def add(self, table: Any) -> None:
        """Take rows of one or more shards, as encoders give them; raises OSError for a shard not written."""
        import pyarrow.compute as pc

        self.rows += table.num_rows
        self.failed += table.num_rows - table.column("error").null_count
        for number in pc.unique(table.column("shard")).to_pylist():
            self._add_part(number, table.filter(pc.equal(table.column("shard"), number)))
        self._take_written(most=2 * _WRITERS - 1)

    def finish(self) -> None:
        """Wait for the shards that are being written."""
        self._take_written(most=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def _add_part(self, number: int, table: Any) -> None:
        import pyarrow.compute as pc

        part = self._parts.setdefault(number, _GatheredShard())
        part.tables.append(table)
        part.rows += table.num_rows
        part.size = pc.max(table.column("size")).as_py() if part.size is None else part.size
        if part.rows == part.size:
            del self._parts[number]
            self._writing.append(self._pool.submit(self._write, number, part.tables))

    def _write(self, number: int, tables: list[Any]) -> Shard:
        import pyarrow as pa

        table = pa.concat_tables(tables).drop_columns(["shard", "size"]).sort_by("index")
        return write_shard(self._folder, number, table)

    def _take_written(self, *, most: int) -> None:
        """Take what is written, waiting for the first ones until at most so many are under way."""
        while self._writing and (len(self._writing) > most or self._writing[0].done()):
            self.finished.append(self._writing.popleft().result())
