"""Words of a command line: options may stand between the others, and behind ``--`` nothing is an option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    behind = (f"{_MARK}{word}" if word.startswith("-") else word for word in words[place + 1 :])
    args = parser.parse_intermixed_args([*words[:place], *behind])
    for name, value in vars(args).items():
        if isinstance(value, str):
            setattr(args, name, value.removeprefix(_MARK))
        elif isinstance(value, list):
            setattr(args, name, [item.removeprefix(_MARK) if isinstance(item, str) else item for item in value])
    return args
