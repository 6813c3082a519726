"""One line of progress on stderr, drawn only where someone watches."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Self

from clipworks.cli.terminal import can_redraw
from clipworks.display import cut_text, show_text

_BAR_WIDTH = 24


class ProgressLine:
    """A line that is drawn over itself, at most five times a second, where stderr is a terminal; left, it is gone."""

    def __init__(self, unit: str | None = None) -> None:
        self._watched = can_redraw(sys.stderr)
        self._drawn = 0.0
        self._unit = unit  # of what `count` counts, to show a speed
        self._stage, self._done, self._started = "", 0, time.monotonic()

    def show(self, text: str) -> None:
        """Draw the line, or do nothing when nobody watches or the last drawing was a moment ago."""
        if self._watched and time.monotonic() - self._drawn >= 0.2:
            self._drawn = time.monotonic()
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{cut_text(show_text(text), width)}", end="", file=sys.stderr, flush=True)

    def count(self, done: int, total: int, *, before: int = 0, what: str = "") -> None:
        """Draw a bar with the share done, the speed of this run and the time left.

        ``before`` of ``done`` were there when the run began. Another word before the colon of ``what``, or a count that
        goes back, is another stage, timed by itself.
        """
        stage = what.partition(":")[0]
        if stage != self._stage or done < self._done:
            self._stage, self._started = stage, time.monotonic()
        self._done = done
        bar = format_bar(done, total, done - before, time.monotonic() - self._started, self._unit)
        self.show(f"{what} {bar}".lstrip())

    def clear(self) -> None:
        """Take the line away."""
        if self._watched and self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


def format_bar(done: int, total: int, now: int, elapsed_s: float, unit: str | None) -> str:
    """Write a bar: ``done`` of ``total``, ``now`` of them in ``elapsed_s`` seconds, and their rate if it has a unit."""
    share = done / total if total else 1.0
    filled = int(share * _BAR_WIDTH)
    text = f"{'█' * filled}{'░' * (_BAR_WIDTH - filled)} {done:,} of {total:,}"
    if now and elapsed_s > 0:
        speed = now / elapsed_s
        rate = "" if unit is None else f", {speed:.1f} {unit}/s"
        text += f"{rate}, {format_time((total - done) / speed)} left"
    return text


def format_time(seconds: float) -> str:
    """Write a time as 59 s, 4:05 or 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
