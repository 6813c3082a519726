"""Two commits side by side: does a change cost time or memory?

    python benchmarks/commits.py BEFORE AFTER --model BUNDLE [BUNDLE] [--pairs 15] [--json FILE]

BEFORE and AFTER are checkouts with an environment each (``make .venv/installed``). Each case is a command that both run
in turn, as a whole process; the order of a pair changes from pair to pair, so that a machine whose pace drifts favours
neither. Printed are medians, and the median of the paired ratios AFTER / BEFORE with its 95% interval (order
statistics: no distribution is assumed). A case fails where the interval does not exclude a loss above 3%.
A second BUNDLE is for AFTER, where its format is another.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

BOUND = 1.03
MATCH = ("match", "{image}", "a diagram", "a dog", "a cat", "--model", "{model}", "--precision", "f32")
CASES = {
    "match, native": (*MATCH, "--runtime", "native"),
    "match, openvino": (*MATCH, "--runtime", "openvino"),
    "first opening, native": (*MATCH, "--runtime", "native"),
    "first opening, openvino": (*MATCH, "--runtime", "openvino"),
    "classify, native": (
        *("classify", "{set}", "--labels", "{labels}", "-o", "{out}/results.jsonl", "--model", "{model}"),
        *("--precision", "f32", "--runtime", "native"),
    ),
    "help": ("--help",),
}
"""What is run. A first opening has an empty cache each time; the others share one that a run before has filled."""


class Run(NamedTuple):
    """What one process took: seconds on the wall, and peak memory in MiB."""

    wall_s: float
    peak_mib: float


class Side(NamedTuple):
    """One commit: its checkout, its bundle, and a cache of its own."""

    checkout: Path
    model: str
    cache: Path


def run_command(side: Side, words: tuple[str, ...], places: dict[str, str], *, cold: bool) -> Run:
    """Run a command of one commit once; ends the script where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache" if cold else side.cache
        filled = [word.format(**places, model=side.model, out=folder) for word in words]
        environment = {**os.environ, "CLIPWORKS_CACHE": str(cache)}
        started = time.perf_counter()
        child = subprocess.Popen(
            [str(side.checkout / ".venv/bin/clipworks"), *filled],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert child.stderr is not None
        said = child.stderr.read()
        _, status, used = os.wait4(child.pid, 0)
        taken = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{side.checkout}: {' '.join(filled)}: status {child.returncode}\n{said.decode()}")
    return Run(taken, used.ru_maxrss / 1024)


def bound_median(values: list[float]) -> tuple[float, float]:
    """The 95% interval of a median by order statistics; of fewer than six values all of them."""
    ordered, tail, cut = sorted(values), 0.0, 0
    for place in range(len(ordered) // 2):
        tail += math.comb(len(ordered), place) / 2 ** len(ordered)
        if tail > 0.025:
            break
        cut = place
    return ordered[cut], ordered[-1 - cut]


def compare_sides(
    before: Side, after: Side, words: tuple[str, ...], places: dict[str, str], *, pairs: int, cold: bool
) -> dict[str, dict[str, float]]:
    """Run one case in pairs: medians of both, the ratio and its interval, of time and of memory."""
    runs: dict[Side, list[Run]] = {before: [], after: []}
    for side in (before, after):
        run_command(side, words, places, cold=cold)
    for pair in range(pairs):
        for side in (before, after) if pair % 2 else (after, before):
            runs[side].append(run_command(side, words, places, cold=cold))
    found = {}
    for name in Run._fields:
        old, new = ([getattr(run, name) for run in runs[side]] for side in (before, after))
        ratios = [second / first for first, second in zip(old, new, strict=True)]
        low, high = bound_median(ratios)
        found[name] = {
            "before": statistics.median(old),
            "after": statistics.median(new),
            "ratio": statistics.median(ratios),
            "low": low,
            "high": high,
        }
    return found


def main() -> int:
    """Run every case and print its row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--model", nargs="+", default=["starter"])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--images", type=int, default=400, help="files that classify reads")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        before = Side(args.before.resolve(), args.model[0], home / "before")
        after = Side(args.after.resolve(), args.model[-1], home / "after")
        photographs = sorted((args.after / "src/clipworks/profiling").glob("*/*.jpg"))
        (home / "set").mkdir()
        for place in range(args.images):
            shutil.copy(photographs[place % len(photographs)], home / "set" / f"{place}.jpg")
        (home / "labels.txt").write_text("dog\ncat\ncar\nhouse\n")
        places = {
            "image": str(args.after.resolve() / "examples/CLIP.png"),
            "set": str(home / "set"),
            "labels": str(home / "labels.txt"),
        }
        for name in args.case:
            cold = name.startswith("first")
            rows[name] = compare_sides(before, after, CASES[name], places, pairs=args.pairs, cold=cold)
            for figure, row in rows[name].items():
                mark = "" if row["high"] <= BOUND else "   NOT within 3%"
                print(
                    f"{name:24} {figure:9} {row['before']:9.3f} {row['after']:9.3f}   "
                    f"ratio {row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f}){mark}",
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps({"pairs": args.pairs, "cases": rows}, indent=2) + "\n")
    return int(any(row["high"] > BOUND for figures in rows.values() for row in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
