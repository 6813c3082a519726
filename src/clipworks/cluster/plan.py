"""The plan of a run: a source cut into shards, each shard into pieces for one task, each piece into blocks.

Blocks are those of a run on one machine: in a list or folder, block b holds the items ``b * size`` to
``(b + 1) * size``; in tar shards, blocks start over in each tar, so that none needs to know how many images the
others hold. All is settled by the source, the batch size and the shard size, never by the cluster: a rerun on other
nodes makes the same rows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from clipworks.datasets.listing import DataSet, Sample
from clipworks.datasets.sources import Archives
from clipworks.errors import UsageError
from clipworks.options import check_count
from clipworks.results.manifest import describe_source, hash_texts

# A piece is a task's work: enough to make its start not count, few enough for every core to have some.
_MOST_BLOCKS = 32
_PIECES_A_CORE = 4


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Blocks of one shard that one task reads and decodes."""

    shard: int  # its number
    start: int  # place of the first image: in the data set, or within a tar
    size: int | None  # images of the whole shard, or None where only reading tells
    samples: tuple[Sample, ...] = ()  # the images, or empty for a tar
    archive: str | None = None  # the tar, or None


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """A source cut up."""

    source: DataSet | Archives  # the images, or the tars that hold them
    batch_size: int  # images in a block
    shard_size: int  # images in a shard of a list, a multiple of the batch size; a tar is a shard whatever its size
    base: str  # the folder that relative paths are below, for workers whose own folder is another

    @property
    def shards(self) -> int:
        """How many shards there are."""
        if isinstance(self.source, Archives):
            return len(self.source.files)
        return math.ceil(len(self.source) / self.shard_size)

    @property
    def images(self) -> int | None:
        """How many images there are, or None where only reading tells."""
        return None if isinstance(self.source, Archives) else len(self.source)

    def describe(self) -> dict[str, Any]:
        """What of the plan changes a row or where it stands, for the manifest."""
        if isinstance(self.source, Archives):
            described = {"source": self.source.source, "root": None, "source_sha256": hash_texts(self.source.files)}
            return {**described, "batch_size": self.batch_size, "tars": len(self.source.files)}
        return {**describe_source(self.source), "batch_size": self.batch_size, "shard_size": self.shard_size}

    def cut(self, todo: Iterable[int], cores: int) -> Iterator[Piece]:
        """The pieces of some shards, in order; their size goes by the number of cores and changes no row."""
        if isinstance(self.source, Archives):
            for number in todo:
                yield Piece(shard=number, start=0, size=None, archive=self.source.files[number])
            return
        blocks = math.ceil(len(self.source) / self.batch_size)
        step = self.batch_size * max(1, min(_MOST_BLOCKS, blocks // (_PIECES_A_CORE * max(1, cores))))
        for number in todo:
            first = number * self.shard_size
            last = min(first + self.shard_size, len(self.source))
            for start in range(first, last, step):
                samples = tuple(self.source[start : min(start + step, last)])
                yield Piece(shard=number, start=start, size=last - first, samples=samples)


def make_plan(source: DataSet | Archives, *, batch_size: int, shard_size: int) -> ShardPlan:
    """Cut a source up; raises UsageError for a shard size that is no multiple of the batch size."""
    check_count("batch size", batch_size)
    if shard_size < 1 or shard_size % batch_size:
        raise UsageError(f"shard size is {shard_size}; allowed: a multiple of the batch size, {batch_size}")
    return ShardPlan(source=source, batch_size=batch_size, shard_size=shard_size, base=os.getcwd())  # noqa: PTH109
