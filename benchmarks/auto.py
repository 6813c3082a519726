"""What auto takes, beside everything else that is installed: is it ever slower?

    python benchmarks/auto.py                         this processor, and this one held to lower instruction sets
    python benchmarks/auto.py --model BUNDLE --modes "as it is" --seconds 3

For each mode (a ceiling of instruction sets, in a process of its own) and model, the encoders of every installed
runtime and precision are opened and called in turn on the same batch. The script fails where what auto takes is slower
than f32 of any runtime, or than another runtime in the same precision, by more than a tenth. ONNX Runtime has no
ceiling: where the others are held to AVX2 it computes with AVX-512, so there its rows are shown and not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks import runtimes, store
from clipworks.environment import describe_environment
from clipworks.errors import ClipworksError
from clipworks.options import PRECISIONS, RuntimeOptions
from clipworks.processor import list_ceilings
from clipworks.runtimes.registry import list_installed, list_names

MODES = {
    "as it is": {},
    "no AMX": {"CLIPWORKS_CPU": "avx512_fp16", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"},
    "no BF16": {"CLIPWORKS_CPU": "avx512_vnni", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX2": {"CLIPWORKS_CPU": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
MARGIN = 0.9
BATCH = {"image": 8, "text": 64}
LENGTH = 16
PAUSE_S = 0.05
"""Before each call: the threads of the runtime before it go on spinning for a while."""


def main() -> int:
    """Measure every mode, print the tables, and return 1 where auto loses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="may be given several times (default: starter)")
    parser.add_argument("--modes", default=",".join(MODES), help="with commas between (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each encoder (default: %(default)s)")
    parser.add_argument("--worker", metavar="MODEL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.worker, args.seconds)))
        return 0
    machine = describe_environment()
    print(f"{machine.cpu}, {machine.cores} cores, load {machine.load_1m}; samples a second, medians\n")
    lost = []
    for mode in args.modes.split(","):
        if (ceiling := MODES[mode].get("CLIPWORKS_CPU")) and ceiling not in list_ceilings():
            print(f"{mode}: this processor has no {ceiling}\n")
            continue
        for model in args.model or ["starter"]:
            lost += show(mode, model, run_worker(mode, model, args.seconds))
    print("\n".join(["auto loses:", *lost]) if lost else "auto is nowhere slower than another by more than a tenth")
    return 1 if lost else 0


def run_worker(mode: str, model: str, seconds: float) -> dict[str, Any]:
    """Measure one model in a process that is held to a mode."""
    words = [sys.executable, __file__, "--worker", model, "--seconds", str(seconds)]
    done = subprocess.run(words, env=os.environ | MODES[mode], stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(model: str, seconds: float) -> dict[str, Any]:
    """Open what can be opened of a model and call it in turn: rates by tower and by ``runtime precision``."""
    bundle = store.open_bundle(model)
    rates: dict[str, Any] = {}
    for role in runtimes.ROLES:
        batch = make_batch(bundle, role)
        taken = runtimes.open_encoder(bundle, role)
        encoders = {f"{taken.runtime} {taken.precision}": taken}
        for runtime in list_installed(list_names()):
            for precision in PRECISIONS:
                try:
                    encoder = runtimes.open_encoder(
                        bundle, role, RuntimeOptions(runtime=runtime, device="cpu", precision=precision)
                    )
                except ClipworksError:
                    continue
                encoders.setdefault(f"{encoder.runtime} {encoder.precision}", encoder)
        times: dict[str, list[float]] = {name: [] for name in encoders}
        order, begin = random.Random(0), time.perf_counter()
        for encoder in encoders.values():
            encoder(batch)
        while time.perf_counter() - begin < seconds * len(encoders) or len(next(iter(times.values()))) < 5:
            for name, encoder in order.sample(list(encoders.items()), len(encoders)):
                time.sleep(PAUSE_S)
                start = time.perf_counter()
                encoder(batch)
                times[name].append(time.perf_counter() - start)
        rates[role] = {
            "auto": f"{taken.runtime} {taken.precision}",
            "why": taken.why,
            "rates": {name: len(batch) / statistics.median(spent) for name, spent in times.items()},
        }
    return rates


def make_batch(bundle: Any, role: runtimes.Role) -> npt.NDArray[Any]:
    """Random images, or texts of random tokens."""
    draw = np.random.default_rng(0)
    if role == "image":
        size = bundle.card.image.size
        return draw.integers(0, 256, (BATCH[role], size, size, 3), dtype=np.uint8)
    ids = draw.integers(1000, bundle.card.text.vocabulary - 2, (BATCH[role], LENGTH)).astype(np.int32)
    if bundle.card.text_tower.pooling != "mean":
        ids[:, 0], ids[:, -1] = bundle.card.text.vocabulary - 2, bundle.card.text.vocabulary - 1
    return ids


def show(mode: str, model: str, found: dict[str, Any]) -> list[str]:
    """Print one mode's tables, and return where auto loses."""
    lost = []
    for role, item in found.items():
        print(f"{mode}: {model}, {role}; auto takes {item['auto']}: {item['why']}")
        own = item["rates"][item["auto"]]
        for name, rate in sorted(item["rates"].items(), key=lambda pair: -pair[1]):
            print(f"  {name:<18}{rate:>10.1f}{'  auto' if name == item['auto'] else ''}")
            runtime, precision = name.split()
            # What auto may take: f32 always, a lower float type where auto has chosen it.
            rival = precision in ("f32", item["auto"].split()[1]) and (runtime != "onnxruntime" or mode != "AVX2")
            if rival and own < MARGIN * rate:
                lost.append(f"  {mode}, {model}, {role}: {item['auto']} {own:.1f}, {name} {rate:.1f}")
        print()
    return lost


if __name__ == "__main__":
    sys.exit(main())
