"""Rank texts by how well they fit an image."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import draw_bar, show_text
from clipworks.display import fit_text, measure_width
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.scoring import Match

_BAR_WIDTH = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks match``."""
    parser.add_argument("image", metavar="IMAGE", help="an image file; - reads it from standard input")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="a text to compare the image with")
    rows = {
        "--texts-file FILE": kinds.TEXTS_FILE,
        "--top K>=1": "print the best K only",
        "--truncate": "cut texts that are longer than the model's context",
    }
    kinds.add_options(parser, rows)
    options.add_image_options(parser)
    options.add_json_option(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Match, print, and return 0."""
    images = options.read_image_options(args)
    _refuse_image_files(args.image, args.texts)
    texts = kinds.read_texts(args.texts, args.texts_file)
    if not texts:
        raise UsageError("no text given", hint="clipworks match IMAGE TEXT [TEXT ...], or --texts-file FILE")
    import clipworks.model  # noqa: F401  # before there is a second thread: two that import can lock each other out
    from clipworks.images.decode import open_file, open_image

    with ThreadPoolExecutor(1) as pool:
        # The image is decoded while the towers load: both leave Python's lock for most of their time.
        loading = pool.submit(options.load_model, args, images=images)
        if args.image == "-":
            decoded = open_image(_read_stdin(), name="standard input", options=images)
        else:
            decoded = open_file(args.image, options=images)
    with loading.result() as model:
        match = model.match(decoded, texts, top=args.top, truncate=args.truncate)
    if args.json:
        print_json({**vars(match), "image": args.image})
    elif sys.stdout.isatty():
        print(_draw(match, shutil.get_terminal_size().columns))
    else:
        for score in match.scores:
            print(f"{score.score:.6f}\t{score.cosine:.6f}\t{show_text(score.text)}")
    return 0


def _refuse_image_files(image: str, texts: Sequence[str]) -> None:
    """A shell turns ``photographs/*`` into many names, of which all but the first would be taken as texts."""
    kind = Path(image).suffix.lower()
    for text in texts:
        if kind and Path(text).suffix.lower() == kind and os.path.isfile(text):  # noqa: PTH113  # takes any text
            raise UsageError(
                f"{text} is a file, where a text was expected; match takes one image",
                hint="clipworks classify FOLDER --labels FILE takes many; such a name as a text: --texts-file FILE",
            )


def _read_stdin() -> bytes:
    from clipworks.errors import ImageError
    from clipworks.images.streams import read_stream

    content = b"" if sys.stdin is None else read_stream(sys.stdin.buffer, name="standard input")
    if not content:
        raise ImageError("standard input is empty; an image was expected")
    return content


def _draw(match: Match, columns: int) -> str:
    """Lay the scores out as a table; with bars where the scores share out one."""
    texts = [show_text(score.text) for score in match.scores]
    width = max(min(max(map(measure_width, texts)), columns - _BAR_WIDTH - 20), 8)
    lines = [f"{'text':<{width}}  {'score':>7}  {'cosine':>7}"]
    for text, score in zip(texts, match.scores, strict=True):
        bar = draw_bar(score.score, _BAR_WIDTH) if match.score_kind == "softmax" else ""
        lines.append(f"{fit_text(text, width)}  {_format_score(score.score)}  {score.cosine:>7.4f}  {bar}".rstrip())
    if match.score_kind != "softmax":
        lines.append("each text is scored by itself: the scores do not add up to 100%")
    lines.append(f"{show_text(match.model)} on {match.runtime}, {match.device}, {match.precision}")
    return "\n".join(lines)


def _format_score(score: float) -> str:
    """A score in seven columns; those of a sigmoid may be small and mean something."""
    return f"{score:>7.2%}" if score >= 5e-5 or score == 0 else f"{100 * score:>6.0e}%"
