"""Start-up time and memory of the command line, as a user meets them: whole processes, warm file cache.

Run: python benchmarks/startup.py [--runs 11] [--json FILE]
Bounds: clipworks --help 0.2 s, clipworks match with starter 1.0 s and 400 MB.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from clipworks.environment import describe_environment

IMAGE = Path(__file__).parent.parent / "examples" / "CLIP.png"
TEXTS = ("a diagram", "a dog", "a cat")
CLIPWORKS = str(Path(sys.executable).with_name("clipworks"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One command with its bounds: seconds of the median run, and MB of the largest."""

    name: str
    words: tuple[str, ...]
    seconds: float
    megabytes: float | None = None


CASES = (
    Case(name="clipworks --help", words=("--help",), seconds=0.2),
    Case(name="clipworks match", words=("match", str(IMAGE), *TEXTS), seconds=1.0, megabytes=400),
    Case(
        name="clipworks match --runtime onnxruntime",
        words=("match", str(IMAGE), *TEXTS, "--runtime", "onnxruntime"),
        seconds=1.0,
        megabytes=400,
    ),
)


def run_once(words: tuple[str, ...]) -> tuple[float, float]:
    """Run one process; return its wall time in seconds and its peak memory in MB (10^6 bytes)."""
    start = time.perf_counter()
    process = subprocess.Popen([CLIPWORKS, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with status {process.returncode}")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def main() -> int:
    """Run every case after one warm-up, in turn; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    for case in CASES:
        run_once(case.words)
    runs = [[run_once(case.words) for case in CASES] for _ in range(args.runs)]
    rows, kept = [], True
    for case, results in zip(CASES, zip(*runs, strict=True), strict=True):
        seconds = [result[0] for result in results]
        memory = max(result[1] for result in results)
        median = statistics.median(seconds)
        holds = median <= case.seconds and (case.megabytes is None or memory <= case.megabytes)
        kept = kept and holds
        rows.append(
            {"command": case.name, "median_s": median, "min_s": min(seconds), "max_s": max(seconds), "peak_mb": memory}
        )
        print(
            f"{case.name:<40}median {median:.3f} s ({min(seconds):.3f} to {max(seconds):.3f}), peak {memory:.0f} MB: "
            f"{'holds' if holds else 'MISSED'}"
        )
    if args.json:
        record = {"environment": dataclasses.asdict(describe_environment()), "rows": rows}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
