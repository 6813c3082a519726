"""Classify a data set into a results file. The same command goes on where an earlier run stopped, however it ended."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import options
from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import show_text

if TYPE_CHECKING:
    from clipworks.cluster.job import State
    from clipworks.model import Model
    from clipworks.results.records import Progress
    from clipworks.scoring import Floats
    from clipworks.text.prompts import Labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks classify``."""
    options.add_dataset_options(parser)
    parser.add_argument(
        "--labels",
        required=True,
        metavar="L",
        help="a file, one label a line or a JSON list, or imagenet, imagenet-synsets",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=options.output_name,
        required=True,
        metavar="FILE",
        help="the results: .jsonl, .parquet, .txt; with ray a folder",
    )
    parser.add_argument(
        "--templates",
        default="simple",
        metavar="T",
        help="none, simple, openai-7, openai-80, a file, one a line, or a JSON list; {} in each (default: simple)",
    )
    parser.add_argument(
        "--top", type=options.at_least(1), default=5, metavar="K", help="classes kept for a picture (default: 5)"
    )
    parser.add_argument(
        "--format", metavar="F", help="jsonl, parquet or text (default: by the output's ending, else jsonl)"
    )
    options.add_json_option(parser)
    options.add_engine_options(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Classify, say how it went, and return 0, 1 with --strict and errors, or 130 for a run that was stopped."""
    from clipworks.cli.progress import Bar, stopping
    from clipworks.datasets.listing import read_dataset
    from clipworks.endings import choose_by_ending
    from clipworks.results.formats import choose_format, list_endings
    from clipworks.results.journal import check_target, manifest_path
    from clipworks.tasks.classify import classify
    from clipworks.text.prompts import read_labels, read_templates

    options.check_engine_options(args)
    if args.engine == "ray":
        return _run_on_ray(args)
    # Whatever can be refused is refused before the model loads.
    images = options.read_image_options(args)
    chosen = choose_format(args.format, args.output)
    choose_by_ending(args.output, list_endings(), default="jsonl", asked=chosen, option=f"--format {chosen}")
    if not args.restart:
        check_target(args.output)
    options.recall_choice(args, Path(manifest_path(args.output)))
    labels = read_labels(args.labels)
    templates = read_templates(args.templates)
    dataset = read_dataset(args.source, root=args.root)
    options.report_left_out(dataset.left_out, args.source)
    bar = Bar("images")
    with options.load_model(args, images=images, towers=("image",), streams=None) as model:
        decoder = options.open_decoder(args, model)
        head = _get_head(args, model, labels, templates)
        with stopping() as stop:
            progress = classify(
                model,
                dataset,
                labels,
                head,
                args.output,
                templates=templates,
                top=args.top,
                batch_size=args.batch_size,
                workers=args.workers,
                decoder=decoder,
                format=args.format,
                restart=args.restart,
                report=lambda now: bar.show(now.done, now.total, before=now.before),
                stop=stop,
            )
    bar.clear()
    options.report_decoder(decoder)
    return conclude(progress, args)


def _run_on_ray(args: argparse.Namespace) -> int:
    from clipworks.cli.distributed import run_request
    from clipworks.cluster.encoding import Classes
    from clipworks.text.prompts import read_labels, read_templates

    labels = read_labels(args.labels)
    templates = read_templates(args.templates)
    return run_request(args, Classes(labels=labels, templates=tuple(templates), top=min(args.top, len(labels))))


def conclude(progress: Progress, args: argparse.Namespace) -> int:
    """Say how a run over a data set ended, and return its exit status."""
    pictures = f"{progress.total:,} picture{'' if progress.total == 1 else 's'}"
    failed = say_failed(progress.failed)
    if not progress.whole:
        said = f"stopped after {progress.done:,} of {pictures}; the same command goes on from there"
    elif progress.before == progress.total:
        said = f"complete already: {pictures}, {failed} (--restart makes it anew)"
    else:
        since = f" (from picture {progress.before:,} on)" if progress.before else ""
        said = f"{pictures}{since}, {failed}"
    return tell_end(progress, said, args)


def say_failed(failed: int) -> str:
    """How many pictures could not be read."""
    return f"{failed:,} could not be read" if failed else "all could be read"


def tell_end(end: Progress | State, said: str, args: argparse.Namespace) -> int:
    """Tell how a run ended, with ``--json`` as numbers too, and return its exit status."""
    if args.json:
        print_json({"output": args.output, **dataclasses.asdict(end), "whole": end.whole})
    print(f"{show_text(args.output)}: {said}", file=sys.stderr)
    if not end.whole:
        return 130
    return 1 if args.strict and end.failed else 0


def _get_head(args: argparse.Namespace, model: Model, labels: Labels, templates: tuple[str, ...]) -> Floats:
    """The text head: an earlier one, or made by a text tower that is gone again before the pictures come."""
    from clipworks.cli.progress import Bar
    from clipworks.tasks.zero_shot import build_head, find_head, keep_head

    head = find_head(model, labels, templates)
    if head is None:
        bar = Bar("prompts")
        with options.load_model(args, towers=("text",)) as tower:
            head = build_head(tower, labels, templates, report=bar.show)
        bar.clear()
        keep_head(model, labels, templates, head)
    return head
