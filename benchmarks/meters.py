"""Our closed loop beside an independent meter: OpenVINO's benchmark_app on the same ONNX file and settings.

Run: python benchmarks/meters.py [--model NAME] [--rounds 5] [--seconds 8] [--json FILE]
The two are alternated in one run, each in a process of its own and each first in every second round; benchmark_app is
given the same runtime settings. Throughputs must agree within 5% (median of the pairwise ratios).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from clipworks import store
from clipworks.environment import describe_environment

BOUND = 0.05
# name, our depth, benchmark_app's way of sending
SETTINGS = (
    ("one after another", 0, ("-api", "sync", "-nireq", "1")),
    ("two in flight", 2, ("-api", "async", "-nireq", "2")),
)
# What clipworks asks of the runtime for exact f32, beyond benchmark_app's own options.
RUNTIME = {"CPU": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "EXECUTION_MODE_HINT": "ACCURACY"}}


def run_ours(model: str, depth: int, seconds: float) -> dict[str, Any]:
    """Profile the image tower in f32 and return throughput (samples/s) and median latency (us)."""
    words = ["profile", "image", "--model", model, "--runtime", "openvino", "--precision", "f32", "--input", "device"]
    words += ["--depth", str(depth), "--duration", str(seconds), "--timeout", str(seconds), "--json"]
    done = subprocess.run([sys.executable, "-m", "clipworks", *words], check=True, capture_output=True, text=True)
    window = json.loads(done.stdout)["runs"][0]["window"]
    return {"per_s": window["requests_per_s"], "p50_us": window["response"]["percentiles"][0]["value_us"]}


def run_benchmark_app(onnx: Path, size: int, way: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Run benchmark_app on the same file and return the same two figures."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "runtime.json"
        config.write_text(json.dumps(RUNTIME), encoding="utf-8")
        words = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(onnx), "-d", "CPU", "-hint", "none"]
        words += ["-nstreams", "1", "-infer_precision", "f32", "-data_shape", f"[1,{size},{size},3]", "-t"]
        words += [str(round(seconds)), "-inference_only", "True", *way, "-json_stats", "-report_folder", folder]
        words += ["-report_type", "no_counters", "-load_config", str(config)]
        subprocess.run(words, check=True, capture_output=True, text=True)
        report = json.loads((Path(folder) / "benchmark_report.json").read_text(encoding="utf-8"))
    results = report["execution_results"]
    return {"per_s": float(results["throughput"]), "p50_us": 1000 * float(results["latency (ms)"])}


def main() -> int:
    """Alternate the two meters and print each pair; 1 when the median ratio is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    bundle = store.open_bundle(args.model)
    onnx = bundle.folder / bundle.card.towers["f32"].image
    rows: list[dict[str, Any]] = []
    kept = True
    for name, depth, way in SETTINGS:
        ratios = []
        for number in range(args.rounds):
            theirs = None if number % 2 else run_benchmark_app(onnx, bundle.card.image.size, way, args.seconds)
            ours = run_ours(args.model, depth, args.seconds)
            theirs = theirs or run_benchmark_app(onnx, bundle.card.image.size, way, args.seconds)
            ratios.append(ours["per_s"] / theirs["per_s"])
            rows.append({"setting": name, "clipworks": ours, "benchmark_app": theirs})
            print(
                f"{name}: clipworks {ours['per_s']:.2f}/s p50 {ours['p50_us']:.0f} us, "
                f"benchmark_app {theirs['per_s']:.2f}/s p50 {theirs['p50_us']:.0f} us, ratio {ratios[-1]:.3f}",
                flush=True,
            )
        middle = statistics.median(ratios)
        holds = abs(middle - 1) <= BOUND
        kept = kept and holds
        verdict = "holds" if holds else "MISSED"
        print(f"{name}: median ratio {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f}): {verdict}")
    if args.json:
        record = {"environment": dataclasses.asdict(describe_environment()), "rows": rows}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
