"""Why an open loop shows what a closed one hides: a server that stands still for 200 ms in every second.

Run: python benchmarks/stall.py [--seconds 20]
The server answers in 1 ms, one request at a time, with real sleeps; both loops measure the same server.
"""

from __future__ import annotations

import argparse
import threading
import time

from clipworks.profiling.clock import NS
from clipworks.profiling.measurement import measure
from clipworks.profiling.profile import Load, Run

EVERY_S, STALL_S, SERVICE_S = 1.0, 0.2, 0.001
RATE = 300.0


class StallingServer:
    """Serves one request at a time and stands still at the end of every second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin = time.perf_counter_ns()

    def call(self, _: int) -> None:
        """Answer a request."""
        with self._lock:
            into = (time.perf_counter_ns() - self._begin) / NS % EVERY_S
            if into > EVERY_S - STALL_S:
                time.sleep(EVERY_S - into)
            time.sleep(SERVICE_S)


def describe(name: str, run: Run) -> str:
    """One row: requests/s and the percentiles in ms."""
    values = "".join(f"{item.value_us / 1000:>9.1f}" for item in run.window.response.percentiles)
    return f"{name:<28}{run.window.requests_per_s:>12.1f}{values}{run.window.response.max_us / 1000:>9.1f}"


def main() -> None:
    """Measure the same server twice and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    load = Load(depth=1, duration_s=seconds, timeout_s=seconds, percentiles=(50, 90, 99))
    print(f"{'':<28}{'requests/s':>12}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    print(describe("closed loop, depth 1", measure([StallingServer().call], load)))
    opened = Load(depth=1, rate=RATE, duration_s=seconds, timeout_s=seconds, percentiles=(50, 90, 99))
    print(describe(f"open loop, {RATE:.0f} requests/s", measure([StallingServer().call], opened)))


if __name__ == "__main__":
    main()
