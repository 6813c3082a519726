"""Top-1 and top-5 of a results file of the vendor's CLIP sample, or of clipworks; truth by WordNet id in each path."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from clipworks.cli import kinds
from clipworks.errors import UsageError
from clipworks.vendor_sample import arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``eval_topk``; see `clipworks.cli.main` for the arguments and the exit status."""
    return arguments.run_command("eval_topk", __doc__, add_arguments, _run, argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sample's argument, and what it lacks."""
    lines = "lines: {file}: top-{i} id: {id}, prob: {p}, class name: {name}"
    parser.add_argument("results", metavar="RESULT.txt", help=lines)
    rows = {
        "--name NAME = clipworks": "what stands in the brackets",
        "--labels L": "imagenet, imagenet-synsets or a file with WordNet ids (default: as recorded, or by the names)",
    }
    kinds.add_options(parser, rows)


def _run(_: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    from clipworks.evaluation.files import count_missing, evaluate_file, read_file_labels
    from clipworks.results.formats import read_results

    if next(read_results(args.results), None) is None:
        raise UsageError(f"{args.results} holds no result")
    known = read_file_labels(args.results, args.labels)
    if known.labels is None:
        raise UsageError(
            f"{args.results}: its class names are of no label set that is known, so no id has a WordNet id",
            hint="--labels names the set, or a file with lines like: n01440764 tench",
        )
    # Results over fewer than five labels list them all: their best five are the whole list.
    depth = next((len(record.top) for record in read_results(args.results) if record.top), 5)
    try:
        found = evaluate_file(args.results, known, ks=(1, min(5, depth)))
    except UsageError as error:
        hint = "a folder named by a WordNet id tells an image's class; --labels L says which class has which id"
        raise UsageError(error.message, hint=hint) from None
    for what, count in (
        ("left out, as no path tells their class", found.without_truth),
        ("that could not be read, counted as wrong", found.errors),
        ("in the whole run, of which the file has a part", count_missing(found, known)),
    ):
        if count:
            arguments.notify(args, f"images {what}: {count:,}")
    first, last = (100 * item.share for item in (found.accuracy[0], found.accuracy[-1]))
    print(f"[{args.name}]: top1_rate: {first:.3f} top5_rate: {last:.3f}")
    return 0
