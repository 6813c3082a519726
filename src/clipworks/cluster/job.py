"""Records of a run on Ray: what it is asked to do, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipworks.cluster.encoding import Loading
    from clipworks.cluster.statistics import Statistics
    from clipworks.tasks.classify import Classes

SHARD_SIZE = 8192


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked to do.

    Attributes:
        source: see `clipworks.datasets.sources.read_source`.
        output: the folder of shards; a path or URL.
        loading: the model.
        classes: to classify; None to embed.
        root: the folder that a list's paths are relative to.
        batch_size: images encoded at once.
        shard_size: images in a shard of a list or folder, rounded up to whole batches; None for `SHARD_SIZE`.
        workers: decoding tasks at once; None for as many as there are CPUs for, or one for every two cores where two
            encoders share them.
        encoders: encoders in the pool; None for one a GPU, one a node of a cluster without, or two that share the cores
            of a Ray that is started here (see `clipworks.cluster.running.share_cores`).
        address: see `clipworks.cluster.cluster.join_cluster`.
        restart: throw away what an earlier run has written.
    """

    source: str
    output: str
    loading: Loading
    classes: Classes | None = None
    root: str | None = None
    batch_size: int = 32
    shard_size: int | None = None
    workers: int | None = None
    encoders: int | None = None
    address: str = "local"
    restart: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardProgress:
    """How far a run is.

    Attributes:
        done: images whose rows have come, those of earlier runs among them; at the end, those in finished shards.
        before: images that earlier runs had finished.
        total: images of the source, or None where only reading tells.
        failed: images that could not be read.
        shards_done: finished shards.
        shards: all shards.
        elapsed_s: seconds since the first piece was begun.
        statistics: Ray's own.
    """

    done: int
    before: int
    total: int | None
    failed: int
    shards_done: int
    shards: int
    elapsed_s: float
    statistics: Statistics

    @property
    def whole(self) -> bool:
        """Whether every shard is there."""
        return self.shards_done == self.shards
