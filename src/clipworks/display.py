"""Text as people see it: as given, but for what would move a terminal's cursor, end the line, or turn it around."""

from __future__ import annotations

import re

# C0, DEL and C1; the two other line ends of Unicode; marks that turn the rest of a line around (embeddings, overrides,
# isolates: what stands behind them could be shown before them); lone surrogates, which no encoding can write. Joiners,
# direction marks and blanks of every kind stay: Persian, Chinese and emoji are made of them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Hangul vowels and finals, and skin tones, are drawn into the character before them.
_JOINED = re.compile("[\u1160-\u11ff\ud7b0-\ud7ff\U0001f3fb-\U0001f3ff]")
_ZERO_WIDTH = ("Mn", "Me", "Cf")
_JOINER, _AS_EMOJI, _SOFT_HYPHEN = "\u200d", "\ufe0f", "\xad"


def show_text(text: str) -> str:
    """A text for one line of a terminal or a page: as given, but for control characters, which are spelled out."""
    if text.isprintable():
        return text
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def quote_text(text: str) -> str:
    """A text in quotes, for a message; `repr` would spell out joiners and wide blanks too."""
    quote = '"' if "'" in text and '"' not in text else "'"
    return f"{quote}{show_text(text)}{quote}"


def measure_width(text: str) -> int:
    """How many columns a text takes.

    Wide characters, as in Chinese, take two; combining and invisible ones none; emoji that joiners hold together take
    two as a whole, as does any character that is asked to be shown as emoji (UAX 11 and UTS 51 of Unicode).
    """
    return len(text) if text.isascii() else _fit(text, None)[0]


def cut_text(text: str, columns: int) -> str:
    """As much of the beginning of a text as takes at most so many columns."""
    return text if text.isascii() and len(text) <= columns else text[: _fit(text, columns)[1]]


def fit_text(text: str, columns: int) -> str:
    """Bring a text to exactly so many columns: cut with an ellipsis, or filled with blanks."""
    if measure_width(text) > columns:
        text = cut_text(text, columns - 1).rstrip(_JOINER) + "…"
    return text + " " * (columns - measure_width(text))


def _fit(text: str, columns: int | None) -> tuple[int, int]:
    """The columns of a text, and how many of its characters fit into a number of columns, if one is given."""
    import unicodedata

    total, last, before = 0, 0, ""
    for place, character in enumerate(text):
        if character == _AS_EMOJI:
            width = 1 if last == 1 else 0  # the character before grows to two columns
        elif before == _JOINER and last == 2:
            width = 0  # drawn as one with the emoji before the joiner
        elif (_JOINED.match(character) and last) or (
            unicodedata.category(character) in _ZERO_WIDTH and character != _SOFT_HYPHEN
        ):
            width = 0
        else:
            last = width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if character == _AS_EMOJI and width:
            last = 2
        if columns is not None and total + width > columns:
            return total, place
        total, before = total + width, character
    return total, len(text)


def fold_text(text: str, columns: int) -> list[str]:
    """Break a text at blanks into lines of at most so many columns; a longer word, as a path, is a line of its own."""
    lines = [""]
    for word in text.split(" "):
        if not lines[-1]:
            lines[-1] = word
        elif measure_width(lines[-1]) + 1 + measure_width(word) <= columns:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def break_text(text: str, columns: int) -> list[str]:
    """Fold a text as `fold_text`, and longer words too: behind a sign, where one stands in a line's second half."""
    pieces = []
    for word in text.split(" "):
        rest = word
        while measure_width(rest) > columns:
            piece = cut_text(rest, columns) or rest[:1]
            pieces.append(piece[: max(piece.rfind(sign, len(piece) // 2) for sign in "/_-.") + 1] or piece)
            rest = rest[len(pieces[-1]) :]
        pieces.append(rest)
    return fold_text(" ".join(pieces), columns)
