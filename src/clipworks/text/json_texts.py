"""Texts as JSON: a list of them, or an object of ids and names, whose order is that of the ids."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from clipworks.errors import TextError

HINT = (
    'allowed: texts one a line, as they are, a JSON list such as ["a dog", "\\"quoted\\"", "#1"], or a column of a '
    "table: FILE.csv:COLUMN"
)
# Control characters; a tab is told apart from them, as it means a table.
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDNET = re.compile(r"n\d{8}")


def read_json(text: str, path: str) -> list[str]:
    """Read the texts of a JSON list, or of an object ``{id: name}``.

    The ids are numbers from 0, WordNet ids, which stay before the names, or other names of classes, which are dropped.

    Raises:
        TextError: damaged JSON, another form of it, or an entry that is no text; the message gives line or entry.
    """
    try:
        content: Any = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        raise TextError(
            f"{path}, line {error.lineno}: looks like JSON, but is damaged: {error.msg} (column {error.colno})",
            hint=HINT,
        ) from None
    except RecursionError:
        raise TextError(f"{path}, line 1: looks like JSON, but is nested too deeply", hint=HINT) from None
    except ValueError:  # a number of thousands of digits
        raise TextError(f"{path}, line 1: looks like JSON, but holds a number that is too long", hint=HINT) from None
    if isinstance(content, _Object):
        return _list_names(content.pairs, path)
    if not isinstance(content, list) or not content:
        raise TextError(f"{path} holds no text; allowed: one a line, or a JSON list")
    return [_check_text(item, f"{path}: entry {place} of its JSON list") for place, item in enumerate(content)]


class _Object:
    """A JSON object as it stands: Python's own would keep the last of two equal ids and say nothing."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _list_names(pairs: Sequence[tuple[str, Any]], path: str) -> list[str]:
    if not pairs:
        raise TextError(f"{path} holds no text; allowed: one a line, or a JSON list")
    named = [(key, _check_text(item, f"{path}: the name of {show_start(key)}")) for key, item in pairs]
    ids = [key for key, _ in named]
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise TextError(f"{path}: the id {show_start(twice)} stands twice; allowed: each id once")
    if all(key.isascii() and key.isdecimal() for key in ids):
        numbers = sorted(map(int, ids))
        if numbers != list(range(len(ids))):
            raise TextError(
                f"{path}: its ids go from {numbers[0]} to {numbers[-1]} for {len(ids)} names; allowed: each number "
                "from 0 on once, as a class is known by its place"
            )
        return [name for _, name in sorted(named, key=lambda pair: int(pair[0]))]
    if all(_WORDNET.fullmatch(key) for key in ids):
        return [f"{key} {name}" for key, name in named]
    return [name for _, name in named]


def _check_text(item: object, what: str) -> str:
    if not isinstance(item, str):
        shown = (
            "an object" if isinstance(item, _Object) else show_start(json.dumps(item, default=lambda _: "an object"))
        )
        raise TextError(f"{what} is {shown}; allowed: texts")
    if not item.strip() or CONTROL.search(item) or "\n" in item or _SURROGATE.search(item):
        allowed = "a text without line ends, control characters or halves of characters"
        raise TextError(f"{what} is {show_start(item)}; allowed: {allowed}")
    return item.strip()


def show_start(text: str) -> str:
    """The beginning of a text in quotes, for a message."""
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
