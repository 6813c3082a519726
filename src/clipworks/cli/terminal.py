"""Text for people's terminals: no control characters, columns that line up, blocks only where they can be shown."""

from __future__ import annotations

import sys


def show_text(text: str) -> str:
    """Spell out what would move the cursor or colour the screen: line ends, escapes, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def measure_width(text: str) -> int:
    """How many columns a text takes: wide characters, as in Chinese, take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def fit_text(text: str, columns: int) -> str:
    """Bring a text to exactly so many columns: cut with an ellipsis, or filled with blanks."""
    if measure_width(text) > columns:
        while text and measure_width(text) > columns - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (columns - measure_width(text))


def draw_bar(share: float, columns: int) -> str:
    """A bar of up to so many columns, in eighths where stdout can show them."""
    eighths = round(share * columns * 8)
    try:
        "█▏".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * (eighths // 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
