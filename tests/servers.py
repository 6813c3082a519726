"""Servers of known behaviour on a virtual clock, against which the profiler is proved."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

from clipworks.profiling.clock import NS, Clock

MS = 1_000_000


def serve(
    clock: Clock, service_ns: Callable[[int], int], *, capacity: int = 1, stall: tuple[int, int] | None = None
) -> Callable[[int], None]:
    """A first-come, first-served server.

    Args:
        clock: the time it lives by.
        service_ns: service time of request i.
        capacity: requests served side by side.
        stall: (every, length) in ns: it stands still for ``length`` at the end of every ``every``.
    """
    free = [0] * capacity
    lock = threading.Lock()

    def call(number: int) -> None:
        with lock:
            begin = max(clock.now(), heapq.heappop(free))
            end = begin + service_ns(number)
            if stall is not None:
                every, length = stall
                # The first moment of standing still at or after the request's begin.
                pause = begin // every * every + every - length
                if end > pause:
                    end = max(end, pause) - max(begin, pause) + max(pause + length, begin)
            heapq.heappush(free, end)
        clock.sleep_until(end)

    return call


def seconds(value: float) -> int:
    """Seconds as ns."""
    return round(value * NS)
