"""Kinds of arguments: tables of options, numbers, lists of them, names of outputs, texts."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from clipworks.errors import UsageError
from clipworks.options import STREAM

TEXTS_FILE = "more texts: one a line, a JSON list, or FILE.csv:COLUMN of a table; - reads standard input"
ENCODING = "of files of texts that are neither UTF-8 nor UTF-16, as gbk"
LIST_ENCODING = "of a list that is neither UTF-8 nor UTF-16, as gbk"
LABELS_ENCODING = "of files of truth and labels that are neither UTF-8 nor UTF-16, as gbk"
Group = argparse._ActionsContainer  # noqa: SLF001  # a parser or a group of one; typeshed has no public name


def add_options(group: Group, rows: Mapping[str, str]) -> None:
    """Add the options of a table: each as its usage is written, and its help.

    ``--root FOLDER`` takes a text, ``--strict`` none, ``--errors wrong|skip`` one of these words, ``--texts TEXT ...``
    at least one text; ``FILE`` stands by itself. ``K>=1``, ``N:int`` and ``S:float`` are numbers, ``FILE:output`` is
    written to, and ``FILE:stream`` may be ``-`` for stdout. Behind that stands ``(required)``, or ``= default``, which
    is told behind the help too.
    """
    for row, told in rows.items():
        usage, _, default = row.removesuffix(" (required)").partition(" = ")
        names = [word for word in usage.split() if word.startswith("-")]
        value = usage.removeprefix(" ".join(names)).strip()
        if not value:
            group.add_argument(*names, action="store_true", help=told)
            continue
        written = _VALUE.fullmatch(value)
        assert written is not None  # whatever is no number is a name
        form: dict[str, Any] = {"choices": value.split("|")} if "|" in value else {"metavar": written["name"]}
        form["type"] = at_least(int(written["low"])) if written["low"] else _KINDS[written["kind"]]
        if written["several"]:
            form["nargs"] = "+"
        if row.endswith(" (required)"):
            form["required"] = True
        shown = f"{told} (default: {default})" if default else told
        group.add_argument(*(names or [written["name"].lower()]), default=default or None, help=shown, **form)


def at_least(low: int) -> Callable[[str], int]:
    """Make an argparse type: a whole number from ``low`` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} on")
        return value

    return read


def check_images(names: Iterable[str]) -> None:
    """Raise UsageError for the first of the names of images that nothing has."""
    missing = next((name for name in names if not os.path.exists(name)), None)  # noqa: PTH110  # a Path may raise
    if missing is not None:
        raise UsageError(f"{missing} does not exist" if missing else "the image's path is empty")


def split_numbers(text: str, option: str, *, low: int = 1, example: str = "1,5") -> list[int]:
    """Read whole numbers from ``low`` on with commas between them, each once; raises UsageError for anything else."""
    parts = dict.fromkeys(part.strip() for part in text.split(","))
    if not all(part.isascii() and part.isdecimal() and int(part) >= low for part in parts):
        raise UsageError(f"{option} is {text!r}; allowed: whole numbers from {low} on with commas, as in {example}")
    return [int(part) for part in parts]


def read_percentiles(args: argparse.Namespace) -> tuple[float, ...]:
    """The percentiles of --percentiles, each once; raises UsageError."""
    from clipworks.profiling.statistics import check_percentiles

    try:
        return check_percentiles(tuple(float(item) for item in args.percentiles.strip("[] ").split(",")))
    except ValueError:
        raise UsageError(f"--percentiles is {args.percentiles!r}; allowed: numbers with commas, as in 50,99") from None


def read_texts(texts: Sequence[str] | None, file: str | None, encoding: str | None = None) -> list[str]:
    """Texts that are given as they are, then those of --texts-file."""
    if (empty := next((place for place, text in enumerate(texts or ()) if not text.strip()), None)) is not None:
        raise UsageError(f"texts[{empty}] is empty; every text needs at least one word")
    if file is None:
        return list(texts or ())
    from clipworks.text.files import parse_texts, read_lines

    if file != STREAM:
        return [*(texts or ()), *read_lines(file, encoding=encoding)]
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()
    return [*(texts or ()), *parse_texts(content, "standard input", encoding=encoding)]


def _read_stream(text: str) -> str:
    """The name of a file that is written, or ``-`` for stdout."""
    if not text:
        raise argparse.ArgumentTypeError("'' is no name; allowed: that of a file, or - for stdout")
    return text


def _read_output(text: str) -> str:
    """The name of a file or folder that is written: what is written takes several files, and resumes."""
    if text in ("", STREAM):
        raise argparse.ArgumentTypeError(f"{text!r} is no name; allowed: that of a file or folder to write")
    return text


_KINDS: dict[str | None, Callable[[str], object]] = {
    None: str,
    "int": int,
    "float": float,
    "output": _read_output,
    "stream": _read_stream,
}
_VALUE = re.compile(r"(?P<name>.+?)(>=(?P<low>\d+)|:(?P<kind>int|float|output|stream))?(?P<several> \.\.\.)?")
