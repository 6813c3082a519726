"""People's terminals: how wide they are, documents on them, bars, and what every line on them goes through."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from clipworks.display import show_text

if TYPE_CHECKING:
    from clipworks.report.document import Document

__all__ = ["can_redraw", "draw_bar", "find_width", "print_document", "print_result", "show_text"]
# Of what is no terminal: files and pipes.
_WIDTH = 100
_NARROWEST = 32


def find_width() -> int:
    """The columns of the terminal, or those that the variable COLUMNS names; 100 where stdout is none."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return _WIDTH
    return max(shutil.get_terminal_size((_WIDTH, 24)).columns, _NARROWEST)


def can_redraw(stream: TextIO) -> bool:
    """Whether someone watches a stream on a terminal that can take a line back."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def print_document(document: Document) -> None:
    """Print a document as wide as the terminal is."""
    from clipworks.report.terminal import format_terminal

    print(format_terminal(document, find_width()))


def print_result(facts: object, draw: Callable[[], Document], *, as_json: bool) -> None:
    """Print a result as JSON, or as the document that ``draw`` makes of it."""
    if as_json:
        from clipworks.cli.json_output import print_json

        print_json(facts)
    else:
        print_document(draw())


def draw_bar(share: float, columns: int) -> str:
    """A bar of up to so many columns, in eighths where stdout can show them."""
    eighths = round(share * columns * 8)
    try:
        "█▏".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * (eighths // 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
