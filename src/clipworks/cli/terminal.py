"""Bars for people's terminals, and what every line on them goes through."""

from __future__ import annotations

import sys

from clipworks.display import cut_text, fit_text, measure_width, show_text

__all__ = ["cut_text", "draw_bar", "fit_text", "measure_width", "show_text"]


def draw_bar(share: float, columns: int) -> str:
    """A bar of up to so many columns, in eighths where stdout can show them."""
    eighths = round(share * columns * 8)
    try:
        "█▏".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * (eighths // 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
