"""Hints that name options: only those that the command has are shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

_OPTION = re.compile(r"--[a-z][a-z0-9-]+")
# A command that is written out has options of its own.
_COMMAND = re.compile(r"\b(clipworks [a-z]+|pip|ray) [^;:]*")


def fit_hint(hint: str | None, parser: argparse.ArgumentParser) -> str | None:
    """What is left of a hint for a command: the parts, with semicolons between them, that name no option it lacks.

    The library knows no command: what it says of an option is for those that have it.
    """
    if hint is None:
        return None
    known = {word for action in parser._actions for word in action.option_strings}  # noqa: SLF001  # no public name
    parts = [part for part in hint.split("; ") if known.issuperset(_OPTION.findall(_COMMAND.sub("", part)))]
    return "; ".join(parts) or None
