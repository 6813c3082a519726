"""Evaluate results of clipworks classify, or the text of the vendor's sample: accuracy, confusions, calibration."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import options
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.prompts import Labels

# Records that must all fit a built-in label set before it is taken for theirs.
_GUESSED_FROM = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks evaluate``."""
    parser.add_argument("results", metavar="RESULTS", help="a results file: JSON lines, Parquet or the sample's text")
    parser.add_argument(
        "--truth",
        metavar="FILE",
        help="path and label a line, or a label a line in the pictures' order (default: as recorded, or by the path)",
    )
    parser.add_argument(
        "--labels", metavar="L", help="a file, imagenet or imagenet-synsets (default: those recorded with the results)"
    )
    parser.add_argument("--top", metavar="K,K", help="which top-k to count (default: 1,5, as far as the results go)")
    parser.add_argument(
        "--errors",
        choices=("wrong", "skip"),
        default="wrong",
        help="what pictures that could not be read count as (default: wrong)",
    )
    parser.add_argument(
        "--most", type=options.at_least(1), default=10, metavar="N", help="rows in each list (default: 10)"
    )
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print, and return 0."""
    from clipworks.evaluation.accuracy import evaluate
    from clipworks.evaluation.text import format_evaluation
    from clipworks.evaluation.truth import find_in_results, read_truth
    from clipworks.results import read_results

    ks = _read_ks(args.top)
    labels = _find_labels(args)
    find_truth = read_truth(args.truth, labels) if args.truth else find_in_results(labels)
    if not ks:
        depth = next((len(record.top) for record in read_results(args.results) if record.top), 5)
        ks = [k for k in (1, 5) if k <= depth]
    found = evaluate(
        read_results(args.results),
        find_truth,
        ks=ks,
        errors=args.errors,
        names=labels.names if labels else (),
        most=args.most,
    )
    _warn_of_an_unfinished_run(args.results, found.pictures)
    print(
        json.dumps({"results": args.results, **dataclasses.asdict(found)})
        if args.json
        else format_evaluation(found, most=args.most)
    )
    return 0


def _warn_of_an_unfinished_run(results: str, pictures: int) -> None:
    from clipworks.journal import manifest_path, read_manifest

    if not Path(manifest_path(results)).exists():
        return
    total = read_manifest(manifest_path(results)).get("settings", {}).get("pictures", pictures)
    if pictures < total:
        print(
            f"{results} holds {pictures:,} of the {total:,} pictures of its run: the figures are of those; "
            "the command that wrote it goes on with it",
            file=sys.stderr,
        )


def _read_ks(text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        ks = [int(item) for item in text.split(",")]
    except ValueError:
        ks = [0]
    if min(ks) < 1:
        raise UsageError(f"--top is {text!r}; allowed: whole numbers from 1 on with commas, as in 1,5")
    return ks


def _find_labels(args: argparse.Namespace) -> Labels | None:
    """The labels asked for, those in the run's manifest, or a built-in set that fits every name in the results."""
    from clipworks.evaluation.truth import guess_labels
    from clipworks.journal import manifest_path, read_manifest
    from clipworks.prompts import Labels, read_labels
    from clipworks.results import read_results

    if args.labels:
        return read_labels(args.labels)
    if Path(manifest_path(args.results)).exists():
        found = read_manifest(manifest_path(args.results)).get("labels")
        if isinstance(found, dict) and "names" in found:
            return Labels(name=str(found.get("name")), names=tuple(found["names"]), ids=tuple(found.get("ids", ())))
    guessed = guess_labels(itertools.islice(read_results(args.results), _GUESSED_FROM))
    if guessed is not None:
        print(f"labels: {guessed.name}, by the names in {args.results}", file=sys.stderr)
    return guessed
