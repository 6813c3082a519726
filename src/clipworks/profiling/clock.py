"""Clocks: the monotonic one that measures, and a virtual one that proves the measuring right.

Everything that waits in a measurement waits on a clock, so that a test can run hours of traffic in no time, to the
nanosecond the same each time.
"""

from __future__ import annotations

import ctypes
import heapq
import sys
import threading
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
        ...

    def sleep_until(self, time_ns: int) -> None:
        """Return at ``time_ns`` or as soon after as can be; at once if it has passed."""
        ...

    def join(self, threads: int) -> None:
        """Announce threads that will live by this clock, before they start."""
        ...

    def leave(self) -> None:
        """Say, from such a thread, that it ends or will wait for something other than this clock."""
        ...


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


class VirtualClock:
    """Time that moves only when every thread that lives by it sleeps; then it jumps to the earliest wake-up.

    Sleepers wake one at a time, in the order of their wake-up times and, among equals, of falling asleep.
    """

    def __init__(self) -> None:
        self._time = 0
        self._awake = 0
        self._order = 0
        self._sleepers: list[tuple[int, int, threading.Event]] = []
        self._lock = threading.Lock()

    def now(self) -> int:
        """See `Clock`."""
        return self._time

    def sleep_until(self, time_ns: int) -> None:
        """See `Clock`."""
        event = threading.Event()
        with self._lock:
            heapq.heappush(self._sleepers, (max(time_ns, self._time), self._order, event))
            self._order += 1
            self._rest()
        event.wait()

    def join(self, threads: int) -> None:
        """See `Clock`."""
        with self._lock:
            self._awake += threads

    def leave(self) -> None:
        """See `Clock`."""
        with self._lock:
            self._rest()

    def _rest(self) -> None:
        self._awake -= 1
        if self._awake == 0 and self._sleepers:
            self._time, _, event = heapq.heappop(self._sleepers)
            self._awake = 1
            event.set()


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
