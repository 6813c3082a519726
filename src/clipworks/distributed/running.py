"""A run on the engine, from a source to a folder of shards, that can be continued after any end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from clipworks.classification import find_truths
from clipworks.datasets import DataSet
from clipworks.distributed.cluster import Cluster, ask_nodes, check_store, join_cluster, plan_pool, require_ray
from clipworks.distributed.collecting import Collector
from clipworks.distributed.decoding import Decoding
from clipworks.distributed.encoding import Classes, Encoding, Found, Loading
from clipworks.distributed.engine import examine_remotely, run_pieces
from clipworks.distributed.plan import Plan, make_plan
from clipworks.distributed.sources import Archives, read_source
from clipworks.distributed.statistics import Statistics
from clipworks.errors import UsageError
from clipworks.heads import hash_head
from clipworks.journal import compare_settings, compose_manifest, explain_write_errors
from clipworks.locations import find_kind
from clipworks.provenance import hash_texts
from clipworks.shards import Shard, list_shards, open_folder, write_folder_manifest

SHARD_SIZE = 8192


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked to do.

    Attributes:
        source: see `clipworks.distributed.sources.read_source`.
        output: the folder of shards; a path or URL.
        loading: the model.
        classes: to classify; None to embed.
        root: the folder that a list's paths are relative to.
        batch_size: pictures encoded at once.
        shard_size: pictures in a shard of a list or folder, rounded up to whole batches; None for `SHARD_SIZE`.
        workers: decoding tasks at once; None for as many as there are CPUs for.
        encoders: encoders in the pool; None for one a GPU, or one a node.
        address: of a Ray cluster; None to start a Ray here.
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
    address: str | None = None
    restart: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """How far a run is.

    Attributes:
        done: pictures whose rows have come, those of earlier runs among them; at the end, those in finished shards.
        before: pictures that earlier runs had finished.
        total: pictures of the source, or None where only reading tells.
        failed: pictures that could not be read.
        shards_done: finished shards.
        shards: all shards.
        elapsed_s: seconds since the first piece was begun.
        statistics: the engine's own.
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


def run(
    request: Request,
    *,
    joined: Callable[[Cluster, int], None] | None = None,
    report: Callable[[State], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> State:
    """Classify or embed a source on Ray into a folder of shards, or go on with one.

    Args:
        request: what to do.
        joined: told once of the cluster, and of how many files of a folder are left out as no pictures.
        report: told after each block.
        stop: asked after each block; once it says so, the run ends with the shards that are finished.

    Returns:
        How far the run came; not ``whole`` if it was stopped.

    Raises:
        UsageError: no Ray, no cluster, a source that nodes cannot see, or shards begun with other settings.
        ClipworksError: the engine, a store or the disk failed; finished shards are kept.
    """
    require_ray()
    source = read_source(request.source, root=request.root)
    if request.classes is not None and isinstance(source, DataSet):
        find_truths(source, request.classes.labels)
    size = request.shard_size or SHARD_SIZE
    size = -(-size // request.batch_size) * request.batch_size
    plan = make_plan(source, batch_size=request.batch_size, shard_size=size)
    with explain_write_errors(request.output):
        manifest = open_folder(request.output, restart=request.restart)
    with join_cluster(request.address) as cluster:
        if joined is not None:
            joined(cluster, source.left_out if isinstance(source, DataSet) else 0)
        pool = plan_pool(
            cluster, encoders=request.encoders, device=request.loading.device, threads=request.loading.threads
        )
        examined = examine_remotely(request.loading, request.classes, pool)
        check_visible(source, plan.base)
        found = examined()
        check_store(cluster, request.batch_size, found.spec.size)
        settings = describe_settings(plan, request.classes, found)
        with explain_write_errors(request.output):
            if manifest is None:
                write_folder_manifest(request.output, compose_manifest(settings, describe_run(request.classes)))
            else:
                compare_settings(request.output, manifest, settings)
            shards = list_shards(request.output)
            state = work(request, plan, found, shards, cluster, report, stop)
            if state.whole and not (manifest or {}).get("whole"):
                finished = sorted(list_shards(request.output).values(), key=lambda shard: shard.number)
                described = {**describe_run(request.classes), **describe_shards(finished)}
                write_folder_manifest(request.output, compose_manifest(settings, described))
    return state


def work(
    request: Request,
    plan: Plan,
    found: Found,
    shards: dict[int, Shard],
    cluster: Cluster,
    report: Callable[[State], None] | None,
    stop: Callable[[], bool],
) -> State:
    """Make the shards that are not there yet."""
    pool = plan_pool(cluster, encoders=request.encoders, device=request.loading.device, threads=request.loading.threads)
    pieces = list(plan.cut([number for number in range(plan.shards) if number not in shards], cluster.cpus))
    start = time.monotonic()
    done = sum(shard.pictures for shard in shards.values())
    failed = sum(shard.failed for shard in shards.values())
    state = State(
        done=done,
        before=done,
        total=plan.pictures,
        failed=failed,
        shards_done=len(shards),
        shards=plan.shards,
        elapsed_s=0.0,
        statistics=Statistics(),
    )
    if not pieces:
        return state
    decoding = Decoding(spec=found.spec, exif=request.loading.exif, batch_size=plan.batch_size, base=plan.base)
    encoding = Encoding(loading=request.loading, source=request.source, classes=request.classes, found=found)
    flow = run_pieces(pieces, decoding, encoding, pool, workers=request.workers)
    with Collector(request.output) as collector, contextlib.closing(flow):  # type: ignore[type-var]  # a generator
        for table, statistics in flow:
            collector.add(table)
            state = dataclasses.replace(
                state,
                done=done + collector.rows,
                failed=failed + collector.failed,
                shards_done=len(shards) + len(collector.finished),
                elapsed_s=time.monotonic() - start,
                statistics=statistics,
            )
            if report is not None:
                report(state)
            if stop():
                break
        collector.finish()
    made = {**shards, **{shard.number: shard for shard in collector.finished}}
    return dataclasses.replace(
        state,
        done=sum(shard.pictures for shard in made.values()),
        failed=sum(shard.failed for shard in made.values()),
        shards_done=len(made),
        elapsed_s=time.monotonic() - start,
    )


def describe_settings(plan: Plan, classes: Classes | None, found: Found) -> dict[str, Any]:
    """Whatever changes a row, or where it stands, if it changes."""
    settings = {**found.granted, **plan.describe(), "dim": found.dim, "format": "shards"}
    if classes is not None:
        assert found.head is not None  # made together with the classes
        settings |= {
            "labels_sha256": hash_texts([*classes.labels.names, "", *classes.labels.ids]),
            "templates_sha256": hash_texts(classes.templates),
            "head_sha256": hash_head(found.head),
            "top": classes.top,
        }
    return settings


def describe_run(classes: Classes | None) -> dict[str, Any]:
    """What a reader of the shards wants to know beside the settings."""
    if classes is None:
        return {"kind": "embeddings"}
    return {"kind": "results", "labels": asdict(classes.labels), "templates": list(classes.templates)}


def describe_shards(shards: list[Shard]) -> dict[str, Any]:
    """The shards of a run that is whole, for its manifest."""
    return {"whole": True, "shards": [asdict(shard) for shard in shards]}


def check_visible(source: DataSet | Archives, base: str) -> None:
    """Insist that every node sees what the driver sees of a source.

    Raises:
        UsageError: one does not; the message names it.
    """
    first = source.files[0] if isinstance(source, Archives) else source[0].file
    # A list's first picture may be missing: then no node will see it, and that is this picture's error.
    place = first if "://" in first else os.path.join(base, first)  # noqa: PTH118
    folder = place.rpartition("/")[0] or "/"
    here = see_place(place), see_place(folder)
    for node, there in ask_nodes(see_places, place, folder).items():
        for name, mine, yours in zip((place, folder), here, there, strict=True):
            if mine is not None and yours != mine:
                raise UsageError(
                    f"the node {node} cannot see {name}: it is {yours or 'not reachable'} there and {mine} here",
                    hint="give the pictures on a file system that all nodes share, or in an object store",
                )


def see_places(*places: str) -> list[str | None]:
    """What each place is, as this machine sees it."""
    return [see_place(place) for place in places]


def see_place(place: str) -> str | None:
    """``file``, ``folder`` or ``missing``, or None where that cannot be told."""
    from clipworks.errors import ClipworksError

    try:
        return find_kind(place)
    except ClipworksError:
        return None
