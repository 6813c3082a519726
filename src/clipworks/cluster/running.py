"""A run on Ray, from a source to a folder of shards, that can be resumed after any end."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clipworks.cluster.cluster import (
    LOCAL,
    Cluster,
    EncoderPool,
    check_store,
    check_visible,
    join_cluster,
    plan_pool,
    require_ray,
)
from clipworks.cluster.collecting import Collector
from clipworks.cluster.decoding import Decoding
from clipworks.cluster.encoding import Encoding, Examination, examine
from clipworks.cluster.job import SHARD_SIZE, Request, ShardProgress
from clipworks.cluster.plan import ShardPlan, make_plan
from clipworks.cluster.stages import examine_remotely, import_packages, run_pieces
from clipworks.cluster.statistics import Statistics
from clipworks.datasets.ground_truth import find_truths
from clipworks.datasets.listing import DataSet
from clipworks.datasets.locations import make_folder
from clipworks.datasets.sources import read_source
from clipworks.options import AUTO, RuntimeOptions
from clipworks.processor import count_cores
from clipworks.results.journal import compare_settings, compose_manifest, explain_write_errors
from clipworks.results.locks import hold_folder
from clipworks.results.manifest import recall_choice
from clipworks.results.shards import Shard, list_shards, open_folder, write_folder_manifest
from clipworks.runtimes import find_runtime
from clipworks.tasks.classify import Classes
from clipworks.urls import is_url


def run(
    request: Request,
    *,
    joined: Callable[[Cluster, int], None] | None = None,
    report: Callable[[ShardProgress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ShardProgress:
    """Classify or embed a source on Ray into a folder of shards, or resume one; return how far the run came.

    Args:
        request: what to do.
        joined: told once of the cluster, and of how many files of a folder are left out.
        report: told after each block.
        stop: asked after each block; once it says so, the run ends with the shards that are finished.

    Raises:
        UsageError: no cluster, a source that nodes cannot see, or shards begun with other settings.
        ClipworksError: Ray, a store or the disk failed; finished shards are kept.
    """
    require_ray()
    source = read_source(request.selection)
    if request.classes is not None and isinstance(source, DataSet):
        find_truths(source, request.classes.labels)
    size = request.shard_size or SHARD_SIZE
    size = -(-size // request.batch_size) * request.batch_size
    plan = make_plan(source, batch_size=request.batch_size, shard_size=size)
    with contextlib.ExitStack() as stack:
        with explain_write_errors(request.output):
            if not is_url(request.output) and not Path(request.output).is_file():  # an object store has no locks
                if not Path(request.output).exists():
                    make_folder(request.output)
                stack.enter_context(hold_folder(request.output))  # before anything in it is deleted
            manifest = open_folder(request.output, restart=request.restart)
        request = ask_for(request, recall_choice(manifest, request.loading.options))
        if request.address == LOCAL:
            request = share_cores(request)
        options = request.loading.options
        here = examine_here(request, stack)
        cluster = stack.enter_context(join_cluster(request.address, encoders=request.encoders, threads=options.threads))
        if joined is not None:
            joined(cluster, source.left_out if isinstance(source, DataSet) else 0)
        pool = plan_pool(cluster, encoders=request.encoders, device=options.device, threads=options.threads)
        examined = here or examine_remotely(request.loading, request.classes, pool)
        if request.address != LOCAL:
            check_visible(source, plan.base)
        found = examined()
        check_store(cluster, request.batch_size, found.spec.size)
        # What auto took where it was examined holds on every node: none chooses for itself.
        settled = {name: found.facts[name] for name in ("runtime", "precision")}
        request = ask_for(request, dataclasses.replace(options, **settled))
        settings = describe_settings(plan, request.classes, found)
        # What auto went by is of the first run.
        described = describe_run(request.classes, found.why if manifest is None else manifest.get("why"))
        with explain_write_errors(request.output):
            if manifest is None:
                write_folder_manifest(request.output, compose_manifest(settings, described))
            else:
                compare_settings(request.output, manifest, settings)
            shards = list_shards(request.output)
            state = work(request, plan, found, shards, pool, cluster.cpus, report, stop)
            if state.whole and not (manifest or {}).get("whole"):
                finished = sorted(list_shards(request.output).values(), key=lambda shard: shard.number)
                described |= {"whole": True, "shards": [asdict(shard) for shard in finished]}
                write_folder_manifest(request.output, compose_manifest(settings, described))
    return state


def ask_for(request: Request, options: RuntimeOptions) -> Request:
    """The same request with other options of the runtime."""
    return dataclasses.replace(request, loading=dataclasses.replace(request.loading, options=options))


def share_cores(request: Request) -> Request:
    """Let two encoders share this machine's cores where nothing else is asked for.

    The threads of one encoder wait for the slowest of them, and decoding slows one or the other all the time; two
    encoders on cores of their own do not wait for each other. A decoding task for every two cores feeds them, as
    encoding takes several times as long as decoding; each further one is two more processes to start.
    """
    cores, options = count_cores(), request.loading.options
    if request.encoders or options.threads or options.device not in ("auto", "cpu") or cores < 2:
        return request
    request = dataclasses.replace(request, encoders=2, workers=request.workers or cores // 2)
    return ask_for(request, dataclasses.replace(options, threads=cores // 2))


def examine_here(request: Request, stack: contextlib.ExitStack) -> Callable[[], Examination] | None:
    """Begin to load the model in this process while Ray starts, where encoders will use the same; else None."""
    options = request.loading.options
    # On Ray only an encoder that asks for a GPU has it; what ``auto`` chooses from never takes one by itself.
    takes_gpu = options.runtime != AUTO and find_runtime(options.runtime).takes_gpu
    if request.address != LOCAL or (options.device != "cpu" and takes_gpu):
        return None
    pool = stack.enter_context(ThreadPoolExecutor(1))  # one thing after the other: Ray's own start needs Python as well
    found = pool.submit(examine, request.loading, request.classes)
    pool.submit(import_packages)
    return found.result


def work(
    request: Request,
    plan: ShardPlan,
    found: Examination,
    shards: dict[int, Shard],
    pool: EncoderPool,
    cores: int,
    report: Callable[[ShardProgress], None] | None,
    stop: Callable[[], bool],
) -> ShardProgress:
    """Make the shards that are not there yet."""
    pieces = list(plan.cut([number for number in range(plan.shards) if number not in shards], cores))
    start, statistics = time.monotonic(), Statistics()
    before, errors = sum(shard.images for shard in shards.values()), sum(shard.failed for shard in shards.values())

    def tell(done: int, failed: int, shards_done: int) -> ShardProgress:
        return ShardProgress(
            done=done,
            before=before,
            total=plan.images,
            failed=failed,
            shards_done=shards_done,
            shards=plan.shards,
            elapsed_s=time.monotonic() - start,
            statistics=statistics,
        )

    if not pieces:
        return tell(before, errors, len(shards))
    decoding = Decoding(
        spec=found.spec,
        options=request.loading.images,
        batch_size=plan.batch_size,
        base=plan.base,
        # An encoder of one thread has no other that waits for it: there, sharing evenly keeps all cores at work.
        yields=not pool.gpus and request.loading.options.threads != 1,
    )
    encoding = Encoding(
        loading=request.loading,
        source=request.selection.name,
        classes=request.classes,
        found=found,
        cores=None if pool.gpus else request.loading.options.threads,
    )
    flow = run_pieces(pieces, decoding, encoding, pool, statistics, workers=request.workers)
    with Collector(request.output) as collector, contextlib.closing(flow):  # type: ignore[type-var]  # a generator
        for table in flow:
            collector.add(table)
            if report is not None:
                finished = len(shards) + len(collector.finished)
                report(tell(before + collector.rows, errors + collector.failed, finished))
            if stop():
                break
        collector.finish()
    made = [*shards.values(), *collector.finished]
    return tell(sum(shard.images for shard in made), sum(shard.failed for shard in made), len(made))


def describe_settings(plan: ShardPlan, classes: Classes | None, found: Examination) -> dict[str, Any]:
    """Whatever changes a row, or where it stands, if it changes."""
    settings = {**found.facts, **plan.describe(), "dim": found.dim, "format": "shards"}
    if classes is not None:
        assert found.classifier is not None  # made together with the classes
        settings |= classes.list_settings(found.classifier)
    return settings


def describe_run(classes: Classes | None, why: str | None) -> dict[str, Any]:
    """What a reader of the shards wants to know beside the settings."""
    if classes is None:
        return {"kind": "embeddings", "why": why}
    return {"kind": "results", "why": why, **classes.describe()}
