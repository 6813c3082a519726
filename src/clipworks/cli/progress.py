"""One line of progress on stderr, drawn only where someone watches."""

from __future__ import annotations

import shutil
import sys
import time


class ProgressLine:
    """A line that is drawn over itself, at most five times a second, when stderr is a terminal."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._drawn = 0.0

    def show(self, text: str) -> None:
        """Draw the line, or do nothing when nobody watches or the last drawing was a moment ago."""
        if self._watched and time.monotonic() - self._drawn >= 0.2:
            self._drawn = time.monotonic()
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._watched and self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._drawn = 0.0
