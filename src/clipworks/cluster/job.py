"""Records of a run on Ray: what it is asked to do, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipworks.cluster.encoding import Loading
    from clipworks.cluster.statistics import Statistics
    from clipworks.datasets.selection import Selection
    from clipworks.tasks.classify import Classes

SHARD_SIZE = 8192


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked to do."""

    selection: Selection  # the source; see `clipworks.datasets.sources.read_source`
    output: str  # the folder of shards; a path or URL
    loading: Loading  # the model
    classes: Classes | None = None  # to classify; None to embed
    batch_size: int = 32  # images encoded at once
    # images in a shard of a list or folder, rounded up to whole batches; None for `SHARD_SIZE`
    shard_size: int | None = None
    # decoding tasks at once; None for as many as there are CPUs for, or one for every two cores where two encoders
    # share them
    workers: int | None = None
    # encoders in the pool; None for one a GPU, one a node of a cluster without, or two that share the cores of a Ray
    # that is started here (see `clipworks.cluster.running.share_cores`)
    encoders: int | None = None
    address: str = "local"  # see `clipworks.cluster.cluster.join_cluster`
    restart: bool = False  # throw away what an earlier run has written


@dataclass(frozen=True, kw_only=True)
class ShardProgress:
    """How far a run is."""

    done: int  # images whose rows have come, those of earlier runs among them; at the end, those in finished shards
    before: int  # images that earlier runs had finished
    total: int | None  # images of the source, or None where only reading tells
    failed: int  # images that could not be read
    shards_done: int  # finished shards
    shards: int  # all shards
    elapsed_s: float  # seconds since the first piece was begun
    statistics: Statistics  # Ray's own

    @property
    def whole(self) -> bool:
        """Whether every shard is there."""
        return self.shards_done == self.shards
