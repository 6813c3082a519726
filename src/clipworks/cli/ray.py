"""Classify and embed on Ray: what is said of the cluster, the progress and the end."""

from __future__ import annotations

import argparse
import gc
import sys
from typing import TYPE_CHECKING

from clipworks.cli import options
from clipworks.cli.progress import ProgressLine, format_bar, format_time
from clipworks.cli.runs import conclude, report_left_out
from clipworks.endings import check_folder_name
from clipworks.errors import UsageError
from clipworks.interrupts import keeping

if TYPE_CHECKING:
    from clipworks.cluster.cluster import Cluster
    from clipworks.cluster.job import ShardProgress
    from clipworks.tasks.classify import Classes


def run_request(args: argparse.Namespace, classes: Classes | None) -> int:
    """Run, say how it went, and return 0, 1 with --strict and errors, or 130 for a run that was stopped."""
    if args.format not in (None, "parquet"):
        raise UsageError(f"--format is {args.format}; allowed with --ray: parquet")
    check_folder_name(args.output, holds="Parquet shards")
    from clipworks.cluster.encoding import Loading
    from clipworks.cluster.job import Request
    from clipworks.cluster.running import run

    chosen, images = options.read_runtime_options(args), options.read_image_options(args)
    selection = options.read_selection(args, args.source, limit=args.limit)
    request = Request(
        selection=selection,
        output=args.output,
        loading=Loading(model=args.model, options=chosen, images=images, offline=args.offline),
        classes=classes,
        batch_size=args.batch_size,
        shard_size=args.shard_size,
        workers=args.workers,
        encoders=args.encoders,
        address=args.ray,
        restart=args.restart,
    )

    def joined(cluster: Cluster, left_out: int) -> None:
        report_left_out(left_out, selection.name)
        gpus = f", {cluster.gpus:,} GPUs" if cluster.gpus else ""
        dashboard = f"dashboard: {cluster.dashboard}" if cluster.dashboard else "no dashboard"
        print(f"Ray: {cluster.nodes:,} nodes, {cluster.cpus:,} CPUs{gpus}; {dashboard}", file=sys.stderr)

    with ProgressLine() as line, keeping() as stop:
        end = run(request, joined=joined, report=lambda now: line.show(format_state(now)), stop=stop)
    gc.freeze()  # else the end of this process looks through all that Ray's packages hold, for a quarter second
    shards = f"{end.shards:,} shard{'s' if end.shards != 1 else ''}"
    since = f" ({end.before:,} of an earlier run)" if end.before else ""
    return conclude(
        end,
        args,
        stopped=f"with {end.shards_done:,} of {shards} finished",
        whole=f"{end.done:,} images in {shards}",
        fresh=f"{end.done:,} images{since} in {shards}",
    )


def format_state(state: ShardProgress) -> str:
    """One line of progress: images or shards done, speed, time left, errors, and Ray's tasks under way."""
    now = state.done - state.before
    if state.total is not None:
        text = format_bar(state.done, state.total, now, state.elapsed_s, "images")
    else:  # what tars hold is known when they are read: time left goes by shards
        text = format_bar(state.shards_done, state.shards, 0, state.elapsed_s, "shards") + f" shards, {now:,} images"
        if now and state.elapsed_s > 0:
            text += f", {now / state.elapsed_s:.1f} images/s"
        if state.shards_done:
            left_s = state.elapsed_s * (state.shards - state.shards_done) / state.shards_done
            text += f", {format_time(left_s)} left"
    running = [str(stage.tasks_running) for stage in state.statistics.stages[1:]]
    return f"{text}, {state.failed:,} errors" + (f", tasks {'+'.join(running)}" if running else "")
