"""Print what makes a shell complete commands, options and names: for bash and zsh, eval it; for fish, source it."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Iterable

from argcomplete import autocomplete
from argcomplete.completers import BaseCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from clipworks.cli import COMMANDS, kinds
from clipworks.cli.parsers import Parser

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks completion``."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"{', '.join(SHELLS)}")


def run(args: argparse.Namespace) -> int:
    """Print the shell's code, and return 0."""
    print(shellcode(["clipworks"], shell=args.shell))
    return 0


def answer_shell() -> None:
    """Tell the shell what may come next on its line, which stands in the environment, and end the process."""
    line = os.environ.get("COMP_LINE", "")
    autocomplete(_build_parser(line.split()), default_completer=_ValueCompleter())


def _build_parser(words: list[str]) -> Parser:
    """The parser of all commands; only those that are named have their arguments: the others need not be imported."""
    parser = Parser(prog="clipworks")
    kinds.add_options(parser, {"--version": "show the version", "--traceback": "show Python's traceback"})
    commands = parser.add_subparsers(parser_class=Parser)
    for name, summary in COMMANDS.items():
        one = commands.add_parser(name, help=summary, description=summary)
        if name in words:
            importlib.import_module(f"clipworks.cli.{name}").add_arguments(one)
    commands.add_parser("help", help="explain a command").add_argument("command", choices=list(COMMANDS))
    commands.add_parser("version", help="show the version")
    return parser


class _ValueCompleter(BaseCompleter):
    """What an argument may be: names where it takes names, else files."""

    def __call__(
        self,
        *,
        prefix: str,
        action: argparse.Action,
        parser: argparse.ArgumentParser,  # noqa: ARG002  # the form of a completer
        parsed_args: argparse.Namespace,  # noqa: ARG002  # likewise
    ) -> Iterable[str]:
        list_names = _NAMES.get(action.dest)
        if list_names is None:
            return FilesCompleter()(prefix)
        return [name for name in list_names() if name.startswith(prefix)]


def _list_models() -> list[str]:
    from clipworks.store.listing import list_models

    return [model.name for model in list_models()]


def _list_runtimes() -> list[str]:
    from clipworks.options import AUTO
    from clipworks.runtimes.registry import list_names

    return [AUTO, *list_names()]


def _list_precisions() -> list[str]:
    from clipworks.options import AUTO, PRECISIONS

    return [AUTO, *PRECISIONS]


_NAMES: dict[str, Callable[[], list[str]]] = {
    "model": _list_models,
    "name": _list_models,
    "runtime": _list_runtimes,
    "precision": _list_precisions,
}
"""Of arguments that take names, by where argparse keeps them."""
