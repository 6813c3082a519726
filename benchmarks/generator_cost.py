"""What the load generator itself costs: processor time for each request that a server answers at once.

Run: python benchmarks/generator_cost.py [--json FILE]
The bound to hold: under 20 us a request, so that 10,000 requests/s can be offered on 2 cores.
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
from clipworks.profiling.records import Load

BOUND_US = 20.0
RATE = 10_000.0


def answer(_: int) -> None:
    """A server that answers at once."""


def main() -> int:
    """Measure closed loops and the open loop at 10,000 requests/s; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, depth, rate in [
        ("closed, depth 0", 0, None),
        ("closed, depth 4", 4, None),
        ("open, 10,000/s, depth 4", 4, RATE),
    ]:
        load = Load(depth=depth, rate=rate, duration_s=3, timeout_s=3, warmup_s=0.5, iterations=1)
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        run = measure([answer], load)
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        # Warm-up requests cost too: the rate stands for the whole time of the run.
        requests = run.window.requests_per_s * wall / 1e9
        rows.append(
            {
                "load": name,
                "requests_per_s": run.window.requests_per_s,
                "cpu_us_per_request": cpu / 1000 / requests,
                "queue_delay_p50_us": run.window.queue.percentiles[0].value_us,
                "queue_delay_p99_us": run.window.queue.percentiles[3].value_us,
                "overloaded": run.overload.overloaded if run.overload else False,
            }
        )
        print(
            f"{name:<26}{rows[-1]['requests_per_s']:>12.0f} requests/s{rows[-1]['cpu_us_per_request']:>8.2f} us of CPU "
            f"a request, queue delay p50 {rows[-1]['queue_delay_p50_us']:.0f} us, "
            f"p99 {rows[-1]['queue_delay_p99_us']:.0f} us"
        )
    if args.json:
        record = {"environment": dataclasses.asdict(describe_environment()), "rows": rows}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    offered = rows[-1]
    kept = all(row["cpu_us_per_request"] < BOUND_US for row in rows) and not offered["overloaded"]
    kept = kept and offered["requests_per_s"] > 0.97 * RATE
    print(
        "holds" if kept else "MISSED",
        f"(bound: {BOUND_US:.0f} us a request, {RATE:,.0f} requests/s offered and answered)",
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
