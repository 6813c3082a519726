"""What the sample's commands have in common: lists in brackets, files of the card, models by a path's prefix, notices.

The sample's own tests take any byte on stderr for a failure, as do scripts made after them. So what a working command
has to say beside its results goes to a terminal, or anywhere with ``--verbose``. Errors go to stderr always.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from clipworks.bundle.files import CARD_FILE
from clipworks.cli import kinds, options, run_guarded
from clipworks.cli.parsers import Parser
from clipworks.errors import ClipworksError, UsageError
from clipworks.options import STARTER

LABEL_FILE = "the labels, one a line or a JSON list; or imagenet, imagenet-synsets, which come with it"
STRINGS = "[a diagram,a dog,a cat]"
VERBOSE = "--verbose"
# What the sample calls each of its compiled models' files, without their endings.
_MODEL_FILE = "mod"
_OPTION = re.compile(r"(?<![\w-])--\w[\w-]*")


def make_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose errors are one line, with -? for help too, as the sample's C++ programs have it, and --verbose."""
    parser = Parser(prog=program, description=description, allow_abbrev=False, add_help=False)
    parser.add_argument("-h", "-?", "--help", action="help", help="show this help and exit")
    kinds.add_options(parser, {VERBOSE: "write notices to stderr also where it is no terminal; errors always are"})
    return parser


def run_command(
    program: str,
    description: str | None,
    declare: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.ArgumentParser, argparse.Namespace], int],
    argv: Sequence[str] | None,
) -> int:
    """Run one of the sample's commands; see `clipworks.cli.run_guarded` for the arguments and the exit status."""

    def run_quietly(words: list[str]) -> int:
        parser = make_parser(program, description)
        declare(parser)
        with warnings.catch_warnings():  # whoever gives them, where notices are not wanted
            if not wants_notices(verbose=VERBOSE in words):
                warnings.simplefilter("ignore")
            return run(parser, parser.parse_args(words))

    return run_guarded(program, run_quietly, argv)


def add_hardware_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Declare options for files of the vendor's card, which are taken and not used."""
    group = parser.add_argument_group("files of the vendor's card (taken, not used by this runtime)")
    kinds.add_options(group, {f"--{name} FILE": "not used" for name in names})


def add_runtime_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declare what the sample's commands lack: the options of the runtime, but for the device."""
    group = parser.add_argument_group("of clipworks")
    options.add_runtime_options(group, named=("runtime", "precision"))
    return group


def note_hardware(args: argparse.Namespace, *names: str) -> None:
    """Note once which files of the vendor's card were given and are not used."""
    given = [f"--{name} {value}" for name in names if (value := getattr(args, name))]
    if given:
        notify(args, f"not used by this runtime: {', '.join(given)}")


def read_list(text: str, option: str) -> list[str]:
    """Read ``[a,b,c]``, brackets or not, quotes around an entry with commas; raises UsageError for a list with gaps."""
    inner = re.sub(r"\s*[\r\n]\s*", " ", text).strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    try:
        entries = [entry.strip() for row in csv.reader([inner], skipinitialspace=True, strict=True) for entry in row]
    except csv.Error:
        raise UsageError(f'{option} is {text!r}; allowed: quotes around a whole entry, as in [a,"b, c"]') from None
    if not entries or not all(entries):
        raise UsageError(f"{option} is {text!r}; allowed: a list without gaps, as in [a,b,c]")
    return entries


def read_numbers(text: str, option: str, example: str) -> list[float]:
    """Read a list of numbers; raises UsageError for an entry that is none."""
    try:
        return [float(entry) for entry in read_list(text, option)]
    except ValueError:
        raise UsageError(f"{option} is {text!r}; allowed: numbers, as in {example}") from None


def find_model(prefix: str | None, option: str) -> str:
    """The bundle's folder or model's name in a prefix of the sample; raises UsageError for a path to anything else."""
    if not prefix:
        return STARTER
    head, _, last = prefix.rpartition("/")
    name = head if head and last == _MODEL_FILE else prefix
    path = Path(prefix).expanduser()
    # A name alone is no file of the folder that one happens to be in.
    alone = len(prefix.rstrip("/")) == len(path.name) and prefix != _MODEL_FILE
    for folder in (path,) if alone else (path, path.parent):
        if _exists(folder / CARD_FILE):
            return str(folder)
    local = path.is_absolute() or prefix.startswith((".", "~")) or _exists(path) or (name != prefix and _exists(head))
    if local and name != STARTER:
        raise UsageError(
            f"{option} {prefix} is no clipworks bundle: there is no {CARD_FILE}",
            hint="a model compiled for the vendor's card runs on that card alone; give a bundle's folder, or a model's "
            "name in its place: clipworks models list",
        )
    return name


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a name that is too long
        return False


@contextlib.contextmanager
def renaming(parser: argparse.ArgumentParser, names: Mapping[str, str]) -> Iterator[None]:
    """Let an error of clipworks speak of the sample's options: ``names`` maps those of clipworks to them.

    A hint that names an option which ``parser`` lacks is left out, unless it is a whole command line of clipworks.
    """
    found = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in names))

    def rename(text: str) -> str:
        return found.sub(lambda match: names[match[0]], text)

    try:
        yield
    except ClipworksError as error:
        error.message = rename(error.message)
        hint = rename(error.hint) if error.hint else ""
        known = set(_OPTION.findall(parser.format_help()))
        kept = "clipworks " in hint or known.issuperset(_OPTION.findall(hint))
        error.hint = hint if hint and kept else None
        raise


def wants_notices(*, verbose: bool) -> bool:
    """Whether notices are shown: with ``--verbose``, or where stderr is a terminal."""
    return verbose or sys.stderr.isatty()


def notify(args: argparse.Namespace, text: str) -> None:
    """Write a notice to stderr, in one line, where notices are wanted; ``args`` has ``verbose``."""
    if wants_notices(verbose=args.verbose):
        from clipworks.cli.terminal import show_text

        print(f"note: {show_text(text)}", file=sys.stderr)
