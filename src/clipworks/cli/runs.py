"""Runs over a data set: their progress, and what is said at their end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from clipworks.cli import options
from clipworks.cli.json_output import print_json
from clipworks.cli.progress import ProgressLine
from clipworks.cli.terminal import show_text
from clipworks.errors import UsageError
from clipworks.interrupts import keeping
from clipworks.options import STREAM

if TYPE_CHECKING:
    from clipworks.cluster.job import ShardProgress
    from clipworks.datasets.listing import DataSet
    from clipworks.model import Model
    from clipworks.options import ImageOptions
    from clipworks.results.records import RunProgress
    from clipworks.tasks.runs import RunOptions


def check_stdout(args: argparse.Namespace) -> None:
    """Raise UsageError for what does not go with results on stdout."""
    if args.output != STREAM:
        return
    for name, given in (("json", args.json), ("restart", args.restart), ("ray", args.ray is not None)):
        if given:
            raise UsageError(f"--{name} goes with an output that has a name, not with - for stdout")


def open_output(args: argparse.Namespace) -> str | BinaryIO:
    """The name of the output, or stdout."""
    return sys.stdout.buffer if args.output == STREAM else str(args.output)


def run_here(
    args: argparse.Namespace,
    images: ImageOptions,
    prepare: Callable[[Model], Callable[[DataSet, RunOptions], RunProgress]],
) -> int:
    """Run over the data set in this process and say how it went; ``prepare`` makes of the model what writes results."""
    from clipworks.pipeline import LoopOptions
    from clipworks.tasks.runs import RunOptions

    dataset = options.read_images(args, args.source)
    report_left_out(dataset.left_out, dataset.source)
    drawn_over = args.output == STREAM and sys.stdout.isatty()  # the results stand where the progress would
    with options.load_model(args, images=images, towers=("image",), streams=None) as model:
        decoder, write = options.open_decoder(args, model), prepare(model)
        with ProgressLine("images") as line, keeping() as stop:
            run_options = RunOptions(
                format=args.format,
                loop=LoopOptions(batch_size=args.batch_size, workers=args.workers, decoder=decoder),
                restart=args.restart,
                report=None if drawn_over else lambda now: line.count(now.done, now.total, before=now.before),
                stop=stop,
            )
            end = write(dataset, run_options)
    if decoder is not None and decoder.single:
        done = decoder.batched + decoder.single
        print(f"{decoder.single:,} of {done:,} images were decoded by Pillow after all", file=sys.stderr)
    whole = f"{end.total:,} image{'' if end.total == 1 else 's'}"
    fresh = f"{whole} (from image {end.before:,} on)" if end.before else whole
    return conclude(end, args, stopped=f"after {end.done:,} of {whole}", whole=whole, fresh=fresh)


def conclude(
    end: RunProgress | ShardProgress, args: argparse.Namespace, *, stopped: str, whole: str, fresh: str
) -> int:
    """Tell how a run ended, with ``--json`` as numbers too, and return its exit status.

    What it has done is said in one of three ways: where it was stopped, of one that was whole before, and of any other.
    """
    failed = f"{end.failed:,} could not be read" if end.failed else "all could be read"
    if not end.whole:
        said = f"stopped {stopped}" + ("; the same command resumes from there" if args.output != STREAM else "")
    elif end.before == end.done:
        said = f"complete already: {whole}, {failed} (--restart starts over)"
    else:
        said = f"{fresh}, {failed}"
    if args.json:
        print_json({"output": args.output, **vars(end), "whole": end.whole})
    print(f"{'stdout' if args.output == STREAM else show_text(args.output)}: {said}", file=sys.stderr)
    if not end.whole:
        return 130
    return 1 if args.strict and end.failed else 0


def report_left_out(count: int, source: str) -> None:
    """Say on stderr how many files of a folder are no images, if any."""
    if count:
        what = "1 file is no image" if count == 1 else f"{count:,} files are no images"
        print(f"{show_text(source)}: {what} by the ending: left out", file=sys.stderr)
