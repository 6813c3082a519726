"""Evaluate results of clipworks classify, or the text of the vendor's sample: accuracy, confusions, calibration."""

from __future__ import annotations

import argparse
import sys

from clipworks.cli import kinds, options
from clipworks.cli.terminal import print_result, show_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks evaluate``."""
    rows = {
        "RESULTS": "a results file: JSON lines, CSV, Parquet or the sample's text",
        "--truth FILE": "path and label a line, or a label a line in the images' order; or .json, an object from path "
        "to label, or to a list of labels (default: as recorded, or by the path)",
        "--labels L": "a file, imagenet or imagenet-synsets (default: those recorded with the results)",
        "--encoding E": kinds.LABELS_ENCODING,
        "--most N>=1 = 10": "rows in each list",
        "--top K,K": "which top-k to count (default: 1,5, as far as the results go)",
    }
    kinds.add_options(parser, rows)
    options.add_errors_option(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print, and return 0."""
    from clipworks.evaluation.files import count_missing, evaluate_file, evaluate_label_file, read_file_labels
    from clipworks.report.classes import show_evaluation
    from clipworks.report.label_sets import show_label_sets

    ks = [] if args.top is None else kinds.split_numbers(args.top, "--top")
    known = read_file_labels(args.results, args.labels, encoding=args.encoding)
    if known.guessed and known.labels:
        print(f"labels: {show_text(known.labels.name)}, by the names in {show_text(args.results)}", file=sys.stderr)
    several = evaluate_label_file(args.results, known, args.truth, ks=ks, errors=args.errors) if args.truth else None
    if several is not None:
        _tell_missing(args.results, several.images, count_missing(several, known))
        facts = {"results": args.results, **vars(several)}
        print_result(facts, lambda: show_label_sets(several, most=args.most), as_json=args.json)
        return 0
    found = evaluate_file(args.results, known, truth=args.truth, ks=ks, errors=args.errors, most=args.most)
    _tell_missing(args.results, found.images, count_missing(found, known))
    facts = {"results": args.results, **vars(found)}
    print_result(facts, lambda: show_evaluation(found, most=args.most), as_json=args.json)
    return 0


def _tell_missing(results: str, images: int, total: int | None) -> None:
    if total:
        print(
            f"{show_text(results)} holds {images:,} of the {total:,} images of its run: the figures are of those; the "
            "command that wrote it resumes it",
            file=sys.stderr,
        )
