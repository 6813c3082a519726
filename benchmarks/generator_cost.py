"""What the load generator itself costs: processor time for each request that a server answers at once.

Run: python benchmarks/generator_cost.py [--json FILE]

The bounds to hold: under 20 us a request of the generator's own work, and 10,000 requests/s offered and answered on 2
cores. At that rate a thread also sleeps before nearly every request; what a bare sleep costs on the machine (timer,
interrupt, wake-up) is measured beside, since it is the system's and differs tenfold between machines.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from clipworks.environment import describe_environment
from clipworks.profiling.measurement import measure
from clipworks.profiling.profile import Load

BOUND_US = 20.0
RATE = 10_000.0
OFFERED = "open loop, 10,000/s, depth 4"
LOADS = (
    ("closed loop, depth 0", 0, None),
    ("closed loop, depth 4", 4, None),
    ("open loop, always behind, depth 4", 4, 1e6),  # never waits: what is left is the generator's own work
    (OFFERED, 4, RATE),
)


def answer(_: int) -> None:
    """A server that answers at once."""


def measure_sleep() -> float:
    """Processor time of a sleep of 100 us, in us."""
    count = 10_000
    start = time.process_time_ns()
    for _ in range(count):
        time.sleep(1e-4)
    return (time.process_time_ns() - start) / 1000 / count


def main() -> int:
    """Measure closed loops and the open loop at 10,000 requests/s; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, depth, rate in LOADS:
        load = Load(depth=depth, rate=rate, duration_s=3, timeout_s=3, warmup_s=0.5, iterations=1)
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        run = measure([answer], load)
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        # Warm-up requests cost too: the rate stands for the whole time of the run.
        requests = run.window.requests_per_s * wall / 1e9
        row = {
            "load": name,
            "requests_per_s": run.window.requests_per_s,
            "cpu_us_per_request": cpu / 1000 / requests,
            "queue_delay_p50_us": run.window.queue.percentiles[0].value_us,
            "queue_delay_p99_us": run.window.queue.percentiles[3].value_us,
        }
        rows.append(row)
        print(f"{name:<34}{row['requests_per_s']:>12.0f} requests/s{row['cpu_us_per_request']:>8.2f} us of CPU each")
    own = [row for row in rows if row["load"] != OFFERED]
    offered = next(row for row in rows if row["load"] == OFFERED)
    sleep_us = measure_sleep()
    print(f"  late by p50 {offered['queue_delay_p50_us']:.0f} us, p99 {offered['queue_delay_p99_us']:.0f} us")
    print(f"a bare sleep of 100 us here       {sleep_us:>31.2f} us of CPU each")
    if args.json:
        record = {
            "environment": dataclasses.asdict(describe_environment()),
            "rows": rows,
            "bare_sleep_cpu_us": sleep_us,
        }
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    kept = all(row["cpu_us_per_request"] < BOUND_US for row in own) and offered["requests_per_s"] > 0.97 * RATE
    print("holds" if kept else "MISSED", f"(own work under {BOUND_US:.0f} us, {RATE:,.0f} requests/s answered)")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
