"""Builds of the native runtime's compiled module beside each other, called in turn in one process.

    python benchmarks/native_builds.py BEFORE.so AFTER.so --model BUNDLE [--rounds 15] [--sets amx,avx2]

Copies of `_towers.abi3.so`. Printed are samples a second (medians) and the median of the paired ratios, AFTER's speed
over BEFORE's, with its 95% interval by order statistics. A module from before there was a
choice takes its highest set.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import numpy as np
from commits import bound_median

from clipworks.bundle.files import read_bundle
from clipworks.environment import describe_environment
from clipworks.runtimes.native._towers import list_instruction_sets
from clipworks.runtimes.native.facts import HEAD, Facts
from clipworks.runtimes.native.layout import pack_tower
from clipworks.text.packing import BACK, ENDS, GROUPS, IDS, PLACES, TEXTS, pack_texts
from clipworks.towers.files import read_tower
from clipworks.towers.stored import find_tower

NOTHING = np.empty(0, np.float32)
LENGTH = 16


def load_build(path: str, number: int) -> Any:
    """A module under a name of its own."""
    name = f"build{number}._towers"
    loader = ExtensionFileLoader(name, path)
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def prepare_call(build: Any, tower: Any, facts: Facts, count: int) -> Callable[[], None]:
    """A call with so many images, or texts of 6 to 14 tokens, or texts of full length."""
    rng, out = np.random.default_rng(0), np.empty((count, facts.dim), np.float32)
    if facts.image_size:
        pixels = rng.integers(0, 256, (count, facts.image_size, facts.image_size, 3), dtype=np.uint8)
        return lambda: build.encode_images(tower, pixels, out, NOTHING)
    if not facts.causal:
        full = rng.integers(1, facts.vocabulary, (count, facts.context), dtype=np.int32)
        return lambda: build.encode_full_texts(tower, full, out, NOTHING)
    ids = rng.integers(1, facts.vocabulary - 1, (count, LENGTH), dtype=np.int32)
    lengths = rng.integers(6, 14, count)
    ids[:, 0] = facts.vocabulary - 2
    ids[np.arange(LENGTH) > lengths[:, None]] = 0
    ids[np.arange(count), lengths] = facts.vocabulary - 1
    packed = pack_texts(ids, filled=False)
    arrays = [packed[name] for name in (IDS, PLACES, GROUPS, ENDS, BACK, TEXTS)]
    return lambda: build.encode_texts(tower, *arrays, lengths.astype(np.int32), out, NOTHING)


def measure(calls: list[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Seconds of each call, in turns; who comes first changes with every turn, as it is not the same place."""
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for number in range(rounds):
        for times, call in list(zip(seconds, calls, strict=True))[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure what is asked for and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--model", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--sets", default=list(list_instruction_sets())[-1], help="with commas between")
    parser.add_argument("--precisions", default="f32,bf16,int8", help="with commas between")
    parser.add_argument(
        "--batches", default="1,32", help="images a call, with commas between; of texts four times as many"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    builds = [load_build(path, number) for number, path in enumerate((args.before, args.after))]
    bundle, machine = read_bundle(args.model), describe_environment()
    print(f"{machine.cpu}, {machine.cores} cores, load {machine.load_1m}; {args.rounds} pairs")
    for instruction_set in args.sets.split(","):
        listed = list_instruction_sets()[instruction_set]
        for precision in (name for name in args.precisions.split(",") if name in listed):
            if precision == "int8" and "int8" not in bundle.card.towers:
                continue
            for role in ("image", "text"):
                int8 = precision == "int8"
                weights = read_tower(find_tower(bundle, role, "int8" if int8 else "f32"))
                facts, body = pack_tower(weights, bf16=precision == "bf16" or (int8 and "bf16" in listed), int8=int8)
                towers = []
                for build in builds:
                    chosen = (instruction_set,) if hasattr(build, "name_set") else ()
                    towers.append(build.open_tower(body[HEAD:], facts[:-1], args.threads, *chosen))
                for batch in map(int, args.batches.split(",")):
                    count = batch if role == "image" or batch == 1 else 4 * batch
                    calls = [prepare_call(*pair, facts, count) for pair in zip(builds, towers, strict=True)]
                    before, after = measure(calls, args.rounds)
                    ratios = [one / other for one, other in zip(before, after, strict=True)]
                    low, high = bound_median(ratios)
                    rates = [count / statistics.median(times) for times in (before, after)]
                    case = f"{instruction_set} {precision} {role} {count}"
                    ratio = f"{statistics.median(ratios):.3f} ({low:.3f}-{high:.3f})"
                    print(f"{case}: {rates[0]:.1f} and {rates[1]:.1f}/s, {ratio}", flush=True)


if __name__ == "__main__":
    main()
