"""What the machine allows: matrix products by every library at hand, memory, and decoding alone.

    python -m peers.limits PHOTOGRAPHS    (a JSON list; prints JSON)

Run in each environment that has one of the libraries; the best of all is the peak that figures are set against.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PASSES = 3
"""How often all is measured, for the best: the pace of a shared machine changes."""
SIDES = (1600, 768, 3072)
"""Rows, inner and outer side of a matrix product like those of a tower with a batch of 32."""


WIDTHS = {"f32": 4, "bf16": 2, "int8": 1}
"""Bytes of a weight."""


def measure_limits(material: Any) -> dict[str, Any]:
    """Ask the environments of clipworks and transformers, one after another, and keep the best of each figure."""
    from peers.bounds import count_needs
    from peers.environments import HOME, ROOT, describe_surroundings
    from peers.sessions import INPUTS, save_list

    listed = save_list(INPUTS / "timed.json", material.photographs)
    best: dict[str, Any] = {}
    for name in ("clipworks", "transformers") * PASSES:
        words = [str(HOME / name / "bin" / "python"), "-m", "peers.limits", listed]
        done = subprocess.run(words, check=True, capture_output=True, text=True, env=describe_surroundings(), cwd=ROOT)
        for key, (value, how) in json.loads(done.stdout.splitlines()[-1]).items():
            if key not in best or value > best[key][0]:
                best[key] = [value, how]
    found: dict[str, Any] = {key: {"value": value, "by": how} for key, (value, how) in best.items()}
    return found | measure_peak() | measure_starts() | {"needs": count_needs(material)}


def measure_starts() -> dict[str, Any]:
    """Seconds of a least start that reads the weights of one image and some texts, by precision."""
    from peers.environments import HOME, ROOT, describe_surroundings
    from peers.sessions import INPUTS

    towers = [INPUTS / "bundle" / f"{role}.onnx" for role in ("image", "text")]
    config = json.loads((INPUTS / "checkpoint" / "config.json").read_text(encoding="utf-8"))["text_config"]
    # Of the tokens' vectors a few are needed.
    needed = sum(tower.stat().st_size for tower in towers) - 4 * config["vocab_size"] * config["hidden_size"]
    found = {}
    for precision, size in WIDTHS.items():
        count = needed * size // WIDTHS["f32"]
        words = [str(HOME / "clipworks" / "bin" / "python"), "-m", "peers.least_start", str(count), *map(str, towers)]
        done = subprocess.run(words, check=True, capture_output=True, text=True, env=describe_surroundings(), cwd=ROOT)
        how = f"Python with numpy and Pillow imported, and {count / 1e6:.0f} MB of weights read once"
        found[f"start_{precision}_s"] = {"value": float(done.stdout.splitlines()[-1]), "by": how}
    return found


def measure_peak(seconds: float = 2.0) -> dict[str, Any]:
    """What the processor's own multiply-adds reach, all cores at once; nothing where no compiler or AVX-512 is."""
    from peers.environments import ROOT

    found: dict[str, Any] = {}
    source, cores = ROOT / "benchmarks" / "peers" / "peak.c", sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "peak")
        if (
            shutil.which("cc") is None
            or subprocess.run(["cc", "-O2", str(source), "-o", program], check=False).returncode
        ):
            return found
        running = [
            subprocess.Popen(["taskset", "-c", str(core), program, str(seconds)], stdout=subprocess.PIPE, text=True)
            for core in cores
        ]
        rates = [[float(word) for word in process.communicate()[0].split()] for process in running]
    for precision, rate in zip(WIDTHS, (sum(column) for column in zip(*rates, strict=True)), strict=True):
        if rate:
            found[f"{precision}_peak"] = {"value": rate, "by": f"multiply-adds of registers alone, {len(cores)} cores"}
    return found


def time_best(call: Callable[[], object], rounds: int = 12) -> float:
    """Seconds of the quickest of some calls, after two."""
    call()
    call()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def measure_numpy() -> dict[str, Any]:
    """f32 product by numpy, and copying of memory that no cache holds."""
    rows, inner, outer = SIDES
    random = np.random.default_rng(0)
    left, right = random.normal(size=(rows, inner)).astype(np.float32), random.normal(size=(inner, outer))
    right = right.astype(np.float32)
    out = np.empty((rows, outer), np.float32)
    product = 2 * rows * inner * outer / time_best(lambda: np.matmul(left, right, out=out)) / 1e9
    source = np.ones(1 << 28, np.uint8)
    target = np.empty_like(source)
    copied = 2 * source.nbytes / time_best(lambda: np.copyto(target, source), 6) / 1e9
    return {"f32_gflops": (product, "numpy"), "memory_gb_per_s": (copied, "numpy, copy of 256 MB, one core")}


def measure_torch() -> dict[str, Any]:
    """f32 and bf16 products by PyTorch, plain and by oneDNN's packed weights."""
    import torch

    rows, inner, outer = SIDES
    found = {}
    for name, kind in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = torch.randn(rows, inner).to(kind), torch.randn(outer, inner).to(kind)
        with torch.inference_mode():
            plain = time_best(lambda left=left, right=right: torch.nn.functional.linear(left, right))  # type: ignore[misc]
        found[f"{name}_gflops"] = (2 * rows * inner * outer / plain / 1e9, "torch")
    return found


def measure_openvino() -> dict[str, Any]:
    """Products by OpenVINO in each precision that it takes here, int8 with the scales that a tower has."""
    import openvino
    from openvino import opset13 as ops

    rows, inner, outer = SIDES
    random = np.random.default_rng(0)
    weights = random.normal(size=(inner, outer)).astype(np.float32)
    core = openvino.Core()
    found = {}
    batch = random.normal(size=(rows, inner)).astype(np.float32)
    depth = 8
    for name, hint in (("f32", openvino.Type.f32), ("bf16", openvino.Type.bf16), ("int8", openvino.Type.f32)):
        if name == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            continue
        given = ops.parameter([rows, inner], np.float32)
        node: Any = given
        for _ in range(depth):  # a chain, so that what goes in and out is small beside the work
            for side in (weights, weights.T.copy()):
                node = ops.matmul(
                    quantize(ops, node, name), fold(ops, side, name), transpose_a=False, transpose_b=False
                )
        model = openvino.Model([node], [given])
        config = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        config |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        request = core.compile_model(model, "CPU", config).create_infer_request()
        request.set_tensor(request.model_inputs[0], openvino.Tensor(batch))
        seconds = time_best(request.infer, 6)
        found[f"{name}_gflops"] = (2 * depth * 2 * rows * inner * outer / seconds / 1e9, "OpenVINO")
    return found


def quantize(ops: Any, node: Any, name: str) -> Any:
    """Activations as int8 sees them, or as they are."""
    if name != "int8":
        return node
    low, high = np.float32(-128), np.float32(127)
    return ops.fake_quantize(node, low, high, low, high, 256)


def fold(ops: Any, weights: Any, name: str) -> Any:
    """A constant, of int8 with a scale where that is asked for."""
    if name != "int8":
        return ops.constant(weights)
    scale = np.float32(np.abs(weights).max() / 127)
    rounded = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(rounded), np.float32), ops.constant(scale))


def measure_decoding(paths: list[str]) -> dict[str, Any]:
    """Photographs a second that Pillow decodes on one core, without and with the reference's resizing."""
    import io

    from PIL import Image

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    contents = [Path(path).read_bytes() for path in paths]

    def decode() -> None:
        for content in contents:
            Image.open(io.BytesIO(content)).load()

    def resize() -> None:
        for content in contents:
            image = Image.open(io.BytesIO(content)).convert("RGB")
            scale = 224 / min(image.size)
            image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)

    return {
        "decoding_images_per_s_a_core": (len(paths) / time_best(decode, 3), "Pillow"),
        "resizing_images_per_s_a_core": (len(paths) / time_best(resize, 3), "Pillow"),
    }


def main() -> None:
    """Measure with what is installed here."""
    found = measure_numpy()
    parts = [measure_torch] if importlib.util.find_spec("torch") else []
    parts += [measure_openvino] if importlib.util.find_spec("openvino") else []
    for part in parts:
        for key, value in part().items():
            found[key] = max(found.get(key, value), value)
    found |= measure_decoding(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
