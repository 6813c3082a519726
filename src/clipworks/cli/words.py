"""Words of a command line: options may stand between the others, and behind ``--`` nothing is an option."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipworks.errors import ClipworksWarning

if TYPE_CHECKING:
    import argparse

_END = "--"
# Before a word behind ``--`` that begins as an option does: no word of a command line can hold a NUL.
_MARK = "\0"


def parse_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parse the words of a command; `argparse` alone forgets ``--`` where options stand between positional words."""
    if _END not in words:
        return parser.parse_intermixed_args(words)
    place = words.index(_END)
    later = words[place + 1 :]
    for word in later:
        if word.partition("=")[0] in parser._option_string_actions:  # noqa: SLF001  # no public name
            said = f"{word} stands behind --, where nothing is an option: it is taken as a name or a text"
            warnings.warn(said, ClipworksWarning, stacklevel=2)
    behind = (f"{_MARK}{word}" if word.startswith("-") else word for word in later)
    args = parser.parse_intermixed_args([*words[:place], *behind])
    for name, value in vars(args).items():
        if isinstance(value, str):
            setattr(args, name, value.removeprefix(_MARK))
        elif isinstance(value, list):
            setattr(args, name, [item.removeprefix(_MARK) if isinstance(item, str) else item for item in value])
    return args
