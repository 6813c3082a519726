"""Parsers of commands and subcommands: their errors are one line, which says what may have been meant."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from clipworks.cli.terminal import show_text
from clipworks.errors import find_near

_UNKNOWN = re.compile(r"unrecognized arguments: (?P<given>.*)", re.DOTALL)
_CHOICE = re.compile(
    r"argument (?P<name>\S+): invalid choice: (?P<given>'.*?'|\".*?\") \(choose from (?P<known>.*)\)", re.DOTALL
)
_CHOSEN = re.compile(r"[^\s',]+")
_MISSING = "the following arguments are required"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, as every other error of clipworks is."""

    _words: Sequence[str] = ()  # that are being parsed

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and know the words where one of the required ones is missing."""
        self._words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        meant = self._find_meant(message)
        guess = f"; did you mean {meant}?" if meant else ""
        if match := _CHOICE.search(message):
            message = f"{match['name']} is {match['given']}; allowed: {', '.join(_CHOSEN.findall(match['known']))}"
        print(f"{self.prog}: {show_text(message)}{guess} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)

    def _find_meant(self, message: str) -> str | None:
        """The option, or the allowed word, that is nearest to what is refused."""
        if match := _CHOICE.search(message):
            return find_near(match["given"].strip("'\""), _CHOSEN.findall(match["known"]))
        words = _UNKNOWN.search(message)
        given = words["given"].split() if words else self._words if message.startswith(_MISSING) else ()
        dashed = [word for word in given if word.startswith("-") and word not in self._option_string_actions]
        if named := next((word for word in dashed if os.path.isfile(word)), None):  # noqa: PTH113  # any word
            return f"-- {named}"
        options = [name for name in self._option_string_actions if name.startswith("--")]
        unknown = (word.partition("=")[0] for word in dashed)
        return next((near for name in unknown if (near := find_near(name, options))), None)


class SubcommandParser(Parser):
    """The parser of a subcommand, which says itself what it does not know: the command's has other options."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and end with an error for whatever is left."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left
