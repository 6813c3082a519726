"""Clocks: everything that waits in a measurement waits on one.

So a test can run hours of traffic on a virtual one in no time, to the nanosecond the same each time.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

NS = 1_000_000_000
_PR_SET_TIMERSLACK = 29


class Clock(Protocol):
    """Nanoseconds from an arbitrary point, and waiting on the same scale."""

    def now(self) -> int:
        """The time in ns; never goes back."""

    def sleep_until(self, time_ns: int) -> None:
        """Return at ``time_ns`` or as soon after as can be; at once if it has passed."""

    def join(self, threads: int) -> None:
        """Announce threads that will live by this clock, before they start."""

    def leave(self) -> None:
        """Say, from such a thread, that it ends or will wait for something other than this clock."""


class MonotonicClock:
    """The system's monotonic clock."""

    def __init__(self) -> None:
        self.now = time.perf_counter_ns

    def sleep_until(self, time_ns: int) -> None:
        """See `Clock`."""
        wait = time_ns - self.now()
        if wait > 0:
            time.sleep(wait / NS)

    def join(self, threads: int) -> None:
        """Nothing to do: real time passes by itself."""

    def leave(self) -> None:
        """Nothing to do: real time passes by itself."""


@contextmanager
def live_by(clock: Clock) -> Iterator[None]:
    """Leave the clock when the block ends, however it ends."""
    try:
        yield
    finally:
        clock.leave()


def sharpen_timer() -> None:
    """Ask Linux to wake the calling thread when it said, not up to 50 us later; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
