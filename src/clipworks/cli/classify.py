"""Classify a data set into a results file. The same command resumes an earlier run, however it ended."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.options import STREAM

if TYPE_CHECKING:
    from clipworks.datasets.listing import DataSet
    from clipworks.model import Model
    from clipworks.results.records import RunProgress
    from clipworks.scoring import Floats
    from clipworks.tasks.classify import Classes
    from clipworks.tasks.runs import RunOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks classify``."""
    options.add_dataset_options(parser)
    rows = {
        "--labels L (required)": "class names: a file, one a line, a JSON list or {id: name}, FILE.csv:COLUMN of a "
        "table, or imagenet, imagenet-synsets",
        "-o --output FILE:stream (required)": ".jsonl, .csv, .parquet or .txt; - for stdout; with --ray a folder",
        "--templates T = simple": "none, simple, openai-7, openai-80, simple-zh, cn-clip-183, a file, one a line, or a "
        "JSON list; {} in each",
        "--encoding E": kinds.ENCODING,
        "--truncate": "cut prompts that are longer than the model's context",
        "--top K>=1 = 5": "classes kept for an image",
        "--format F": "jsonl, csv, parquet or text (default: by the output's ending, else jsonl)",
    }
    kinds.add_options(parser, rows)
    options.add_json_option(parser)
    options.add_ray_options(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Classify, say how it went, and return 0, 1 with --strict and errors, or 130 for a run that was stopped."""
    from clipworks.cli.runs import check_stdout, open_output, run_here
    from clipworks.endings import choose_by_ending
    from clipworks.results.formats import choose_format, choose_stream, list_endings
    from clipworks.results.journal import check_target, manifest_path
    from clipworks.tasks.classify import Classes, classify
    from clipworks.text.prompts import read_labels, read_templates

    options.check_ray_options(args)
    check_stdout(args)
    # Whatever can be refused is refused before the model loads.
    images = options.read_image_options(args)
    if args.output == STREAM:
        choose_stream(args.format)
    elif args.ray is None:
        chosen = choose_format(args.format, args.output)
        choose_by_ending(args.output, list_endings(), default="jsonl", asked=chosen, option=f"--format {chosen}")
        if not args.restart:
            check_target(args.output)
        options.recall_choice(args, Path(manifest_path(args.output)))
    classes = Classes(
        labels=read_labels(args.labels, encoding=args.encoding),
        templates=read_templates(args.templates, encoding=args.encoding),
        top=args.top,
        truncate=args.truncate,
    )
    if args.ray is not None:
        from clipworks.cli.ray import run_request

        return run_request(args, classes)

    def prepare(model: Model) -> Callable[[DataSet, RunOptions], RunProgress]:
        classifier = _get_classifier(args, model, classes)
        output = open_output(args)
        return lambda dataset, run_options: classify(model, dataset, classes, classifier, output, run_options)

    return run_here(args, images, prepare)


def _get_classifier(args: argparse.Namespace, model: Model, classes: Classes) -> Floats:
    """An earlier zero-shot classifier, or one made by a text tower that is gone again before the images come."""
    from clipworks.cli.progress import ProgressLine
    from clipworks.tasks.kept_texts import KeptTexts
    from clipworks.tasks.zero_shot import build_classifier, find_classifier, keep_classifier

    labels, templates, truncate = classes.labels, classes.templates, classes.truncate
    classifier = find_classifier(model, labels, templates, truncate=truncate)
    if classifier is None:
        with ProgressLine("prompts") as line, options.load_model(args, towers=("text",)) as tower:
            kept = KeptTexts(tower)
            classifier = build_classifier(kept, labels, templates, truncate=truncate, report=line.count)
        keep_classifier(model, labels, templates, classifier, truncate=truncate)
        kept.forget()
    return classifier
