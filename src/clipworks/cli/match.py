"""Rank texts by how well they fit an image, or each of several."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import draw_bar, show_text
from clipworks.display import fit_text, fold_text, measure_width
from clipworks.errors import UsageError
from clipworks.options import STREAM

if TYPE_CHECKING:
    from clipworks.model import Model
    from clipworks.options import ImageOptions
    from clipworks.scoring import ComparedTexts, Match

# Texts that take longer than a moment.
_MANY = 1000
_BAR_WIDTH = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks match``."""
    source = "an image, a folder of images, a pattern in quotes, or a list of images (.txt, .csv); - reads one image"
    parser.add_argument("source", metavar="SOURCE", help=source)
    texts = "a text to compare with; behind --texts or with --texts-file these are more SOURCEs"
    parser.add_argument("words", metavar="TEXT", nargs="*", help=texts)
    rows = {
        "--texts TEXT ...": "the texts; all that stands before is SOURCE",
        "--texts-file FILE": kinds.TEXTS_FILE,
        "--encoding E": kinds.ENCODING,
        "--top K>=1": "the best K only (default: all; of several images the best one, in CSV and JSON all)",
        "--truncate": "cut texts that are longer than the model's context",
        "-o --output FILE:stream": "of one image or several all scores as CSV: a file, or - for stdout",
    }
    kinds.add_options(parser, rows)
    options.add_selection_options(parser)
    options.add_image_options(parser)
    options.add_json_option(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Match, print, and return 0, or 1 where one of several images could not be read."""
    from clipworks.datasets.names import is_single

    images = options.read_image_options(args)
    sources, texts = _tell_apart(args)
    if args.output is not None:
        from clipworks.cli.matches import check_output

        check_output(args)
    single = sources == [STREAM] or (len(sources) == 1 and is_single(sources[0]))
    if single:
        _check_single(args, sources[0])
    return _match_one(args, images, sources[0], texts) if single else _match_many(args, images, sources, texts)


def _tell_apart(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Which words are SOURCEs and which are texts: the first is a SOURCE, the others where texts come otherwise."""
    named = args.texts is not None or args.texts_file is not None
    sources, words = ([args.source, *args.words], []) if named else ([args.source], args.words)
    if args.texts_file == STREAM and STREAM in sources:
        raise UsageError("- is SOURCE and --texts-file; allowed: one of them comes on standard input")
    if len(sources) > 1:
        if STREAM in sources:
            raise UsageError("- reads one image from standard input; it does not go with other SOURCEs")
        from clipworks.datasets.names import is_pattern
        from clipworks.urls import is_url

        known = (os.path.lexists, is_pattern, is_url)
        missing = next((word for word in sources if not any(check(word) for check in known)), None)
        if missing is not None:
            raise UsageError(
                f"{missing} does not exist: with --texts or --texts-file all that stands alone is SOURCE",
                hint="a text goes behind --texts: clipworks match SOURCE --texts TEXT TEXT",
            )
    _refuse_images(args.texts or words)
    texts = kinds.read_texts([*words, *(args.texts or ())], args.texts_file, args.encoding)
    if not texts:
        raise UsageError(
            "no text given", hint="clipworks match SOURCE TEXT [TEXT ...]; of several SOURCEs: --texts TEXT [TEXT ...]"
        )
    return sources, texts


def _check_single(args: argparse.Namespace, source: str) -> None:
    """Refuse what is no image of this machine, and what goes with a list."""
    from clipworks.datasets.names import refuse_root
    from clipworks.urls import is_url, refuse_url

    if is_url(source):
        raise refuse_url(source)
    refuse_root(args.root, "standard input" if source == STREAM else source, "an image")
    if source != STREAM:
        kinds.check_images([source])


def _match_one(args: argparse.Namespace, images: ImageOptions, source: str, texts: list[str]) -> int:
    from clipworks.images.decode import looks_sound, open_image
    from clipworks.images.files import read_image_file

    name = "standard input" if source == STREAM else source
    content = _read_stdin() if source == STREAM else read_image_file(source)
    # What is no image is told before a model is loaded.
    decoded = None if looks_sound(content) else open_image(content, name=name, options=images)
    with ThreadPoolExecutor(1) as pool:
        # The image is decoded while the towers load: both leave Python's lock for most of their time.
        loading = pool.submit(options.load_model, args, images=images)
        decoded = decoded or open_image(content, name=name, options=images)
    with loading.result() as model, ThreadPoolExecutor(1) as pool:
        preparing = pool.submit(model.prepare_image, decoded)
        compared = _prepare_texts(model, texts, truncate=args.truncate)
        match = compared.rank(model.embed_pixels(preparing.result()[None])[0], top=args.top)
    if args.output is not None:
        from clipworks.cli.matches import write_matches

        write_matches(args, [dataclasses.replace(match, image=source)])
    elif args.json:
        known = {name: value for name, value in vars(match).items() if name != "error"}
        print_json({**known, "image": source})
    elif sys.stdout.isatty():
        print(_draw(match, shutil.get_terminal_size().columns))
    else:
        for score in match.scores:
            print(f"{score.score:.6f}\t{score.cosine:.6f}\t{show_text(score.text)}")
    return 0


def _match_many(args: argparse.Namespace, images: ImageOptions, sources: list[str], texts: list[str]) -> int:
    from clipworks.cli.matches import write_matches
    from clipworks.cli.progress import ProgressLine
    from clipworks.cli.runs import report_left_out
    from clipworks.tasks.match import match_dataset

    dataset = options.read_images(args, sources)
    drawn_over = args.output == STREAM and sys.stdout.isatty()
    report_left_out(dataset.left_out, dataset.source)
    failed = 0

    def watch(matches: Iterator[Match]) -> Iterator[Match]:
        nonlocal failed
        for done, match in enumerate(matches, 1):
            failed += match.error is not None
            if not drawn_over:
                progress.count(done, len(dataset))
            yield match
        progress.clear()  # before a table is printed where it stands

    with options.load_model(args, images=images, streams=None) as model:
        compared = _prepare_texts(model, texts, truncate=args.truncate)
        with ProgressLine("images") as progress:
            write_matches(args, watch(match_dataset(model, dataset, compared, top=args.top)))
    if failed:
        print(f"{failed:,} of {len(dataset):,} images could not be read", file=sys.stderr)
    return 1 if failed else 0


def _prepare_texts(model: Model, texts: list[str], *, truncate: bool) -> ComparedTexts:
    """Encode the texts; where they are many, with a line of progress, and so that Ctrl-C keeps what is done."""
    if len(texts) < _MANY:
        return model.prepare_texts(texts, truncate=truncate)
    from clipworks.cli.progress import ProgressLine
    from clipworks.tasks.kept_texts import KeptTexts

    with ProgressLine("texts") as line:
        rows = KeptTexts(model).embed_texts(list(dict.fromkeys(texts)), truncate=truncate, report=line.count)
    return model.prepare_texts(texts, rows=rows)


def _refuse_images(texts: Sequence[str]) -> None:
    """A shell turns ``photographs/*`` into many names, of which all but the first would be taken as texts."""
    from clipworks.datasets.names import is_image_name

    for text in texts:
        if is_image_name(text) and os.path.isfile(text):  # noqa: PTH113  # any text
            raise UsageError(
                f"{text} is an image, where a text was expected",
                hint="several images: clipworks match SOURCE SOURCE --texts TEXT TEXT; such a name as a text: "
                "--texts-file FILE",
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
    room = columns - 18  # for the texts, beside the figures
    drawn = match.score_kind == "softmax" and room >= _BAR_WIDTH + 10
    width = max(min(max(map(measure_width, texts)), room - (_BAR_WIDTH + 2) * drawn), 8)
    lines = [f"{'text':<{width}}  {'score':>7}  {'cosine':>7}"]
    for text, score in zip(texts, match.scores, strict=True):
        bar = draw_bar(score.score, _BAR_WIDTH) if drawn else ""
        lines.append(f"{fit_text(text, width)}  {_format_score(score.score)}  {score.cosine:>7.4f}  {bar}".rstrip())
    if match.score_kind != "softmax":
        lines += fold_text("each text is scored by itself: the scores do not add up to 100%", columns)
    lines += fold_text(f"{show_text(match.model)} on {match.runtime}, {match.device}, {match.precision}", columns)
    return "\n".join(lines)


def _format_score(score: float) -> str:
    """A score in seven columns; those of a sigmoid may be small and mean something."""
    return f"{score:>7.2%}" if score >= 5e-5 or score == 0 else f"{100 * score:>6.0e}%"
