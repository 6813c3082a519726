"""Runs over a data set: their progress, and what is said at their end."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from clipworks.cli import options
from clipworks.cli.json_output import print_json
from clipworks.cli.progress import ProgressLine
from clipworks.cli.terminal import show_text
from clipworks.interrupts import keeping

if TYPE_CHECKING:
    from clipworks.cluster.job import ShardProgress
    from clipworks.datasets.listing import DataSet
    from clipworks.images.decoders import BatchDecoder
    from clipworks.model import Model
    from clipworks.options import ImageOptions
    from clipworks.results.records import RunProgress
    from clipworks.tasks.runs import RunOptions


@contextlib.contextmanager
def running(args: argparse.Namespace, decoder: BatchDecoder | None) -> Iterator[RunOptions]:
    """The options of a run whose progress is drawn, and that a signal asks to end; says what the decoder has done."""
    from clipworks.pipeline import LoopOptions
    from clipworks.tasks.runs import RunOptions

    with ProgressLine("images") as line, keeping() as stop:
        yield RunOptions(
            format=args.format,
            loop=LoopOptions(batch_size=args.batch_size, workers=args.workers, decoder=decoder),
            restart=args.restart,
            report=lambda now: line.count(now.done, now.total, before=now.before),
            stop=stop,
        )
    if decoder is not None and decoder.single:
        done = decoder.batched + decoder.single
        print(f"{decoder.single:,} of {done:,} images were decoded by Pillow after all", file=sys.stderr)


def run_here(
    args: argparse.Namespace,
    images: ImageOptions,
    prepare: Callable[[Model], Callable[[DataSet, RunOptions], RunProgress]],
) -> int:
    """Run over the data set in this process and say how it went; ``prepare`` makes of the model what writes results."""
    from clipworks.datasets.listing import read_dataset

    dataset = read_dataset(args.source, root=args.root)
    report_left_out(dataset.left_out, args.source)
    with options.load_model(args, images=images, towers=("image",), streams=None) as model:
        decoder, write = options.open_decoder(args, model), prepare(model)
        with running(args, decoder) as run_options:
            progress = write(dataset, run_options)
    return conclude(progress, args)


def conclude(progress: RunProgress, args: argparse.Namespace) -> int:
    """Say how a run over a data set ended, and return its exit status."""
    images = f"{progress.total:,} image{'' if progress.total == 1 else 's'}"
    failed = say_failed(progress.failed)
    if not progress.whole:
        said = f"stopped after {progress.done:,} of {images}; the same command resumes from there"
    elif progress.before == progress.total:
        said = f"complete already: {images}, {failed} (--restart starts over)"
    else:
        since = f" (from image {progress.before:,} on)" if progress.before else ""
        said = f"{images}{since}, {failed}"
    return tell_end(progress, said, args)


def say_failed(failed: int) -> str:
    """How many images could not be read."""
    return f"{failed:,} could not be read" if failed else "all could be read"


def tell_end(end: RunProgress | ShardProgress, said: str, args: argparse.Namespace) -> int:
    """Tell how a run ended, with ``--json`` as numbers too, and return its exit status."""
    if args.json:
        print_json({"output": args.output, **vars(end), "whole": end.whole})
    print(f"{show_text(args.output)}: {said}", file=sys.stderr)
    if not end.whole:
        return 130
    return 1 if args.strict and end.failed else 0


def report_left_out(count: int, source: str) -> None:
    """Say on stderr how many files of a folder are no images, if any."""
    if count:
        what = "1 file is no image" if count == 1 else f"{count:,} files are no images"
        print(f"{show_text(source)}: {what} by the ending: left out", file=sys.stderr)
