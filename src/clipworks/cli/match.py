"""Rank texts by how well they fit an image."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from typing import TYPE_CHECKING

from clipworks.cli import options
from clipworks.errors import TextError

if TYPE_CHECKING:
    from clipworks.matching import Match

_BAR_WIDTH = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks match``."""
    parser.add_argument("image", metavar="IMAGE", help="a picture's file; - reads it from standard input")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="a text to compare the picture with")
    parser.add_argument("--texts-file", metavar="FILE", help="more texts, one a line (UTF-8); empty lines are left out")
    parser.add_argument("--top", type=options.at_least(1), metavar="K", help="print the best K only")
    parser.add_argument(
        "--exif",
        choices=("apply", "ignore"),
        default="apply",
        help="apply turns the picture as its EXIF orientation says (the default); ignore is what the reference does",
    )
    options.add_json_option(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Match, print, and return 0."""
    texts = list(args.texts)
    if args.texts_file:
        from clipworks.prompts import read_lines

        texts += read_lines(args.texts_file)
    if not texts:
        raise TextError("no text given", hint="clipworks match IMAGE TEXT [TEXT ...], or --texts-file FILE")
    image = sys.stdin.buffer.read() if args.image == "-" else args.image
    if image != args.image and not image:
        from clipworks.errors import ImageError

        raise ImageError("standard input is empty; an image was expected")
    from clipworks.images import load_image

    # Decoded before the model loads, so that a bad picture is refused at once.
    picture = load_image(image, exif=args.exif)
    with options.load_model(args) as model:
        match = model.match(picture, texts, top=args.top)
    if args.json:
        print(json.dumps({**_describe(match), "image": args.image}, ensure_ascii=False))
    elif sys.stdout.isatty():
        print(_draw(match, shutil.get_terminal_size().columns))
    else:
        for score in match.scores:
            print(f"{score.score:.6f}\t{score.cosine:.6f}\t{score.text}")
    return 0


def _describe(match: Match) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(match)


def _draw(match: Match, columns: int) -> str:
    """Lay the scores out as a table with bars, for a terminal of the given width."""
    width = max(min(max(len(score.text) for score in match.scores), columns - _BAR_WIDTH - 20), 8)
    lines = [f"{'text':<{width}}  {'score':>7}  {'cosine':>7}"]
    for score in match.scores:
        text = score.text if len(score.text) <= width else score.text[: width - 1] + "…"
        bar = _bar(score.score)
        lines.append(f"{text:<{width}}  {score.score:>7.2%}  {score.cosine:>7.4f}  {bar}".rstrip())
    lines.append(f"{match.model} on {match.runtime}, {match.device}, {match.precision}")
    return "\n".join(lines)


def _bar(share: float) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
