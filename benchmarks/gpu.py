"""The PyTorch runtime on a GPU: parity, speed of both towers, and how far it is from the floor. Takes a few minutes.

    python benchmarks/gpu.py [--device cuda:0] [--json FILE]
    python benchmarks/gpu.py --device cpu --batches 1,8 --lengths 8,77 --seconds 0.3

ViT-B/32 shapes, random weights, pictures of noise of several scales. First every precision is compared with
transformers in f32 on the CPU. Then, side by side for each batch or length: our encoder as a caller sees it, from host
memory and from the device's (the answer is on the host, by the host's clock); our tower alone and transformers'
CLIPModel, eager, same type, from the device's memory (by device events). The floor is operations over the measured
matrix rate, and bytes of weights over the measured bandwidth, whichever takes longer.

Goals, judged on CUDA only: bf16 at batch 256 at least 60% of the measured matrix rate; batch 1 under 0.7 ms (p50);
twice transformers at every batch. Needs torch and transformers, on a quiet machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import parity
import torch
import towers

from clipworks.bundle import Bundle
from clipworks.convert import convert_checkpoint
from clipworks.environment import describe_environment
from clipworks.runtimes import Role, open_encoder
from clipworks.runtimes.torch.devices import KINDS, choose_device, list_precisions
from clipworks.runtimes.torch.loading import load_tower
from clipworks.runtimes.weights import ImageWeights, TextWeights, read_image_weights, read_text_weights

SHARE, FIRST_MS, GAIN = 0.6, 0.7, 2.0
Row = dict[str, Any]


def draw_pictures(count: int, size: int) -> Any:
    """uint8 ``[count, size, size, 3]``: noise of several scales, shifted."""
    random = np.random.default_rng(0)
    base = np.zeros((size, size, 3))
    for cell in (4, 16, 56):
        coarse = random.normal(size=(-(-size // cell), -(-size // cell), 3))
        base += np.kron(coarse, np.ones((cell, cell, 1)))[:size, :size]
    square = np.clip(128 + 40 * base, 0, 255).astype(np.uint8)
    return np.stack([np.roll(square, (index * 7, index * 13), axis=(0, 1)) for index in range(count)])


def draw_ids(count: int, length: int) -> Any:
    """int32 ``[count, length]``, start and end included."""
    ids = np.random.default_rng(length).integers(1, 49406, (count, length)).astype(np.int32)
    ids[:, 0], ids[:, -1] = 49406, 49407
    return ids


def time_call(run: Callable[[], Any], seconds: float) -> float:
    """Median ms of a call that waits for its result, by the host's clock."""
    for _ in range(3):
        run()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def time_device(run: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Median ms of work on the device, by its own events; by the host's clock where it has none."""
    if device.type != "cuda":
        return time_call(run, seconds)
    for _ in range(3):
        run()
    torch.cuda.synchronize(device)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        before, after = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call,unused-ignore]  # typed in some versions
            for _ in range(2)
        )
        before.record()
        run()
        after.record()
        after.synchronize()
        taken.append(before.elapsed_time(after))
    return statistics.median(taken)


def measure_floor(device: torch.device, kind: torch.dtype, seconds: float) -> tuple[float, float]:
    """The device's matrix rate in operations/s and its copying bandwidth in bytes/s (read and written counted)."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    rate = 2 * side**3 / (time_device(lambda: left @ right, device, seconds) / 1000)
    source = torch.zeros(2**28 if device.type == "cuda" else 2**25, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return rate, 2 * source.numel() / (time_device(lambda: target.copy_(source), device, seconds) / 1000)


def read_weights(bundle: Bundle, role: Role) -> ImageWeights | TextWeights:
    """The tensors of a tower."""
    return (read_image_weights if role == "image" else read_text_weights)(bundle.folder / f"{role}.onnx")


def check_parity(model: Any, bundle: Bundle, device: torch.device, precision: str) -> Row:
    """Unit embeddings beside transformers' in f32 on the CPU; of what is not granted, the bare tower's."""
    pictures, ids = draw_pictures(16, 224), draw_ids(16, 20)
    with torch.inference_mode():
        pixels = parity.normalise_pixels(pictures)
        expected = {
            "image": model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output),
            "text": model.text_projection(model.text_model(input_ids=torch.from_numpy(ids).long()).pooler_output),
        }
    row: Row = {"what": "parity with transformers f32", "precision": precision}
    roles: tuple[tuple[Role, Any], ...] = (("image", pictures), ("text", ids))
    for role, batch in roles:
        if precision in list_precisions(device):
            encoder = open_encoder(bundle, role, runtime="torch", device=str(device), precision=precision)
            rows = encoder(batch)
            encoder.close()
        else:
            with torch.inference_mode():
                tower = load_tower(read_weights(bundle, role), device, KINDS[precision])
                rows = tower(torch.from_numpy(batch).to(device)).cpu().numpy()
        found, wanted = parity.unit(rows), parity.unit(expected[role].numpy())
        row[f"{role}_difference"] = float(np.abs(found - wanted).max())
        row[f"{role}_cosine_min"] = float((found * wanted).sum(axis=1).min())
    return row


def count_text_operations(weights: TextWeights, count: int, length: int) -> int:
    """Of the text tower, every row computed (`towers.count_operations` cannot follow the graph's own arrangement)."""
    width, last = weights.tokens.shape[1], weights.stack.layers[-1]
    inner: int = sum(part.matrix.size for layer in weights.stack.layers[:-1] for part in vars(layer).values())
    attention = 2 * length * width * (len(weights.stack.layers) - 1)
    pooled = sum(part.matrix.size for part in vars(last).values()) + 2 * length * width * weights.stack.heads
    return int(2 * count * (length * (inner + attention) + pooled + weights.stack.projection.size))


def measure_tower(
    model: Any, bundle: Bundle, role: Role, batches: list[Any], device: torch.device, precision: str, seconds: float
) -> list[Row]:
    """One precision of one tower at every batch."""
    kind, file = KINDS[precision], bundle.folder / f"{role}.onnx"
    rate, bandwidth = measure_floor(device, kind, seconds)
    weights = read_weights(bundle, role)
    with torch.inference_mode():
        tower = load_tower(weights, device, kind)
    theirs = model.to(device, kind)
    encoder = open_encoder(bundle, role, runtime="torch", device=str(device), precision=precision)
    rows: list[Row] = []
    for batch in batches:
        ready, staged = torch.from_numpy(batch).to(device), encoder.stage(batch)
        if role == "image":
            pixels = parity.normalise_pixels(batch).to(device, kind)
            operations = towers.count_operations(file, {"image": list(batch.shape)})

            def run_theirs(pixels: Any = pixels) -> Any:
                return theirs.visual_projection(theirs.vision_model(pixel_values=pixels).pooler_output)

        else:
            wide = ready.long()
            assert isinstance(weights, TextWeights)
            operations = count_text_operations(weights, *batch.shape)

            def run_theirs(pixels: Any = wide) -> Any:
                return theirs.text_projection(theirs.text_model(input_ids=pixels).pooler_output)

        stored = file.stat().st_size * torch.finfo(kind).bits / 32
        with torch.inference_mode():
            row: Row = {
                "what": f"{role} tower",
                "precision": precision,
                "batch": len(batch),
                "length": batch.shape[1] if role == "text" else None,
                "call_from_host_ms": time_call(functools.partial(encoder, batch), seconds),
                "call_from_device_ms": time_call(functools.partial(encoder, staged), seconds),
                "tower_ms": time_device(functools.partial(tower, ready), device, seconds),
                "transformers_ms": time_device(run_theirs, device, seconds),
                "floor_ms": 1000 * max(operations / rate, stored / bandwidth),
            }
        row["per_s"] = 1000 * len(batch) / row["call_from_host_ms"]
        row["share_of_matrix_rate"] = 1000 * operations / row["call_from_device_ms"] / rate
        row["gain"] = row["transformers_ms"] / row["call_from_device_ms"]
        rows.append(row)
        print(json.dumps({key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()}), flush=True)
    encoder.close()
    return rows


def judge(rows: list[Row]) -> list[str]:
    """What misses its goal."""
    missed = []
    for row in (row for row in rows if row["what"] == "image tower"):
        name = f"image tower, {row['precision']}, batch {row['batch']}"
        if row["gain"] < GAIN:
            missed.append(f"{name}: {row['gain']:.2f}x transformers, wanted {GAIN}x")
        if row["precision"] == "bf16" and row["batch"] == 256 and row["share_of_matrix_rate"] < SHARE:
            missed.append(f"{name}: {row['share_of_matrix_rate']:.0%} of the matrix rate, wanted {SHARE:.0%}")
        if row["precision"] == "bf16" and row["batch"] == 1 and row["call_from_device_ms"] > FIRST_MS:
            missed.append(f"{name}: {row['call_from_device_ms']:.2f} ms, wanted {FIRST_MS}")
    return missed


def main() -> int:
    """Check, measure, print; 1 when a goal is missed on a CUDA device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", default="1,8,64,256,1024", help="of pictures")
    parser.add_argument("--lengths", default="8,16,32,77", help="of texts, 64 at once")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = choose_device(args.device)
    pictures = draw_pictures(max(map(int, args.batches.split(","))), 224)
    batches = {
        "image": [pictures[: int(count)] for count in args.batches.split(",")],
        "text": [draw_ids(64, int(length)) for length in args.lengths.split(",")],
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        model = parity.draw_model(parity.SHAPES["B/32"], "quick_gelu", 2, Path(scratch) / "checkpoint")
        bundle = convert_checkpoint(Path(scratch) / "checkpoint", Path(scratch) / "bundle")
        for precision in KINDS:
            rows.append(check_parity(model, bundle, device, precision))
            print(json.dumps(rows[-1]), flush=True)
        roles: tuple[Role, ...] = ("image", "text")
        for precision in list_precisions(device):
            for role in roles:
                rows += measure_tower(model, bundle, role, batches[role], device, precision, args.seconds)
    missed = judge(rows) if device.type == "cuda" else []
    print(f"{name}: {'; '.join(missed) or 'no goal is missed' if device.type == 'cuda' else 'goals are for CUDA'}")
    if args.json:
        record = {"device": name, "environment": dataclasses.asdict(describe_environment()), "rows": rows}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
