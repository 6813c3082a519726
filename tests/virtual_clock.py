"""A virtual clock, which proves the measuring right."""

from __future__ import annotations

import heapq
import threading


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
        """See `clipworks.profiling.clock.Clock`."""
        return self._time

    def sleep_until(self, time_ns: int) -> None:
        """See `clipworks.profiling.clock.Clock`."""
        event = threading.Event()
        with self._lock:
            heapq.heappush(self._sleepers, (max(time_ns, self._time), self._order, event))
            self._order += 1
            self._rest()
        event.wait()

    def join(self, threads: int) -> None:
        """See `clipworks.profiling.clock.Clock`."""
        with self._lock:
            self._awake += threads

    def leave(self) -> None:
        """See `clipworks.profiling.clock.Clock`."""
        with self._lock:
            self._rest()

    def _rest(self) -> None:
        self._awake -= 1
        if self._awake == 0 and self._sleepers:
            self._time, _, event = heapq.heappop(self._sleepers)
            self._awake = 1
            event.set()
