"""Measure image-text retrieval: how well images find their captions, and captions their images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.cli.terminal import print_result

if TYPE_CHECKING:
    from clipworks.report.document import Document
    from clipworks.tasks.retrieve import Retrieval


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks retrieve``."""
    rows = {
        "PAIRS": "a list: path, tab, caption a line, or .csv",
        "--root FOLDER": options.ROOT,
        "--limit N>=1": "the first N images only, with their captions",
        "--encoding E": kinds.LIST_ENCODING,
        "--top K,K = 1,5,10": "recall at which ranks",
        "--truncate": "cut captions that are too long for the model",
        "--batch-size N>=1 = 32": "images encoded at once",
        "--workers N>=1": "threads that read and decode (default: one a core)",
    }
    kinds.add_options(parser, rows)
    options.add_errors_option(parser, what="images that could not be read, and their captions,")
    options.add_image_options(parser)
    options.add_json_option(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 0."""
    from clipworks.cli.progress import ProgressLine
    from clipworks.pipeline import LoopOptions
    from clipworks.tasks.retrieve import read_captions, retrieve

    ks = kinds.split_numbers(args.top, "--top", example="1,5,10")
    images = options.read_image_options(args)
    captions = read_captions(args.pairs, root=args.root, limit=args.limit, encoding=args.encoding)
    with ProgressLine() as line, options.load_model(args, images=images, streams=None) as model:
        found = retrieve(
            model,
            captions,
            ks=ks,
            errors=args.errors,
            truncate=args.truncate,
            options=LoopOptions(batch_size=args.batch_size, workers=args.workers),
            report=lambda what, done, total: line.count(done, total, what=what),
        )
    print_result(found, lambda: _show(found), as_json=args.json)
    return 0


def _show(found: Retrieval) -> Document:
    from clipworks.report.document import Document, FactList, Section
    from clipworks.report.tables import tabulate

    ways = {"image to text": found.image_to_text, "text to image": found.text_to_image}
    medians = {name: "none" if way.median_rank is None else f"{way.median_rank:.0f}" for name, way in ways.items()}
    facts = tuple(
        (name, f"{way.queries:,} queries, {way.candidates:,} candidates, median rank {medians[name]}")
        for name, way in ways.items()
    )
    table = tabulate(
        "Recall",
        [(name, item) for name, way in ways.items() for item in way.recall],
        (
            ("way", lambda pair: pair[0]),
            ("at", lambda pair: str(pair[1].k)),
            ("recall (95%)", lambda pair: f"{pair[1].share:.2%} ({pair[1].low:.2%} to {pair[1].high:.2%})"),
        ),
    )
    how = "counted as wrong" if found.errors_as == "wrong" else "left out with their captions"
    text = [f"{len(found.errors):,} images could not be read: {how}"] if found.errors else []
    text += [reason for _, reason in found.errors[:5]]
    return Document(
        title=f"{found.model} on {found.runtime}, {found.device}, {found.precision}",
        sections=(Section(text=tuple(text), items=(FactList(rows=facts), table)),),
    )
