"""Kinds of arguments: numbers, lists of them, names of outputs, texts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from clipworks.errors import UsageError

Group = argparse._ActionsContainer  # noqa: SLF001  # a parser or a group of one; typeshed has no public name


def add_number(
    group: Group,
    *names: str,
    help: str,  # noqa: A002  # argparse's word
    default: float | None = None,
    low: int | None = None,
    kind: Callable[[str], float] = int,
    metavar: str = "N",
) -> None:
    """Add an option that takes a number, from ``low`` on; what it is by default stands behind its help."""
    kind = kind if low is None else at_least(low)
    shown = "" if default is None else f" (default: {default:g})"
    group.add_argument(*names, type=kind, default=default, metavar=metavar, help=help + shown)


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


def output_name(text: str) -> str:
    """Read the name of an output, as an argparse type: what is written takes several files, and can be resumed."""
    if text in ("", "-"):
        raise argparse.ArgumentTypeError(f"{text!r} is no name; allowed: that of a file or folder to write")
    return text


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


def read_texts(texts: Sequence[str] | None, file: str | None) -> list[str]:
    """Texts that are given as they are, then those of --texts-file."""
    if file is None:
        return list(texts or ())
    from clipworks.text.files import read_lines

    return [*(texts or ()), *read_lines(file)]
