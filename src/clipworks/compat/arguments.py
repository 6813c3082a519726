"""What the sample's commands have in common: lists in brackets, files of the card, models by a path's beginning."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from clipworks.bundle import CARD_FILE
from clipworks.errors import UsageError

STARTER = "starter"
STRINGS = "[a diagram,a dog,a cat]"


def add_hardware_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Declare options for files of the vendor's card, which are taken and not used."""
    group = parser.add_argument_group("files of the vendor's card (taken, not used by this runtime)")
    for name in names:
        group.add_argument(name, metavar="FILE", help="not used")


def add_runtime_options(parser: argparse.ArgumentParser) -> None:
    """Declare what the sample's commands lack: runtime, precision, threads."""
    group = parser.add_argument_group("of clipworks")
    group.add_argument("--runtime", default="auto", metavar="R", help="openvino, onnxruntime, torch or auto")
    group.add_argument("--precision", default="auto", metavar="P", help="f32, bf16, f16, int8 or auto")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads of the runtime")


def note_hardware(args: argparse.Namespace, *names: str) -> None:
    """Say once which files of the vendor's card were given for nothing."""
    given = [f"--{name} {value}" for name in names if (value := getattr(args, name)) is not None]
    if given:
        print(f"not used by this runtime: {', '.join(given)}", file=sys.stderr)


def read_list(text: str, option: str) -> list[str]:
    """Read ``[a,b,c]``, brackets or not; an entry with a comma in it stands in double quotes.

    Raises:
        UsageError: no entry, or an empty one.
    """
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    entries = [entry.strip() for row in csv.reader([inner], skipinitialspace=True) for entry in row]
    if not entries or not all(entries):
        raise UsageError(f"{option} is {text!r}; allowed: a list without gaps, as in [a,b,c]")
    return entries


def read_numbers(text: str, option: str, example: str) -> list[float]:
    """Read a list of numbers.

    Raises:
        UsageError: an entry that is none.
    """
    try:
        return [float(entry) for entry in read_list(text, option)]
    except ValueError:
        raise UsageError(f"{option} is {text!r}; allowed: numbers, as in {example}") from None


def find_model(prefix: str | None) -> str:
    """The model that a prefix of the sample names: a bundle's folder, one and a file's name behind it, or a name."""
    if prefix is None:
        return STARTER
    path = Path(prefix).expanduser()
    if not (path / CARD_FILE).is_file() and (path.parent / CARD_FILE).is_file():
        return str(path.parent)
    return prefix


def make_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose errors are one line."""
    from clipworks.cli import Parser

    return Parser(prog=program, description=description, allow_abbrev=False)
