"""Speed of the towers against transformers' own, ViT-B/32 shapes, random weights, alternated in one run.

    python benchmarks/towers.py [--rounds 5] [--photographs FOLDER] [--int8] [--prompts 80000] [--json FILE]

Image tower: batches of 32 in every precision that is available here, beside what the machine's matrix product at the
same precision allows for the operations that our graph really does. Text tower: the 1,000 ImageNet class names against
transformers padded to the longest of a batch and padded to 77. Then 80 templates times 1,000 names, if asked for.

Needs torch and transformers; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import parity

from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.environment import describe_environment
from clipworks.errors import RuntimeUnavailableError
from clipworks.export.graph import build_graph
from clipworks.images.decode import load_batch
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.runtimes import open_encoder
from clipworks.text import prompts
from clipworks.text.tokenizers import open_tokenizer
from clipworks.towers.files import read_tower
from clipworks.towers.stored import StoredTower, find_tower

BATCH = 32
CALIBRATION = 64  # images, none of which is timed
PADDED = 64  # class names that are run padded to 77, which takes a second each; the rate is what counts
REST_S = 0.1
# A layer's products at batch 32: rows, width, and how many products have which other side.
ROWS, WIDTH, SIDES = BATCH * 50, 768, {768: 4, 3072: 2}
CHAINED = 16 * 3072  # the sum of the sides of half a chain: twice 2 x 1600 x 768 x this is 240 GFLOP, the tower's 260
Run = Callable[[], Any]


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, after one warm-up, taken in turn so that a change of the machine's pace meets all alike.

    Before each is a rest, as the threads of some runtimes go on spinning for a while when their work is done.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(REST_S)
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def count_operations(tower: StoredTower, inputs: dict[str, list[int]]) -> int:
    """Multiplications and additions of every matrix product in a graph, for inputs of the given shapes."""
    model = onnx.load_from_string(build_graph(read_tower(tower)).content)
    for value in model.graph.input:
        for dimension, side in zip(value.type.tensor_type.shape.dim, inputs[value.name], strict=True):
            dimension.dim_value = side
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    total = 0
    for node in inferred.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            shape = shapes[node.output[0]]
            if 0 in shape:
                raise SystemExit(f"{node.name} has the unknown shape {shape}")
            total += 2 * int(np.prod(shape)) * shapes[node.input[0]][-1]
    return total


def repeat(run: Run, times: int) -> None:
    """Run something several times."""
    for _ in range(times):
        run()


def make_products(precision: str) -> dict[tuple[str, int], tuple[Run, float]]:
    """Plain matrix products at the shapes of a layer, by runtime and other side, and the operations of each.

    Each runs about as many operations as the tower, since a short run is faster than a long one on a machine that
    raises its clock; OpenVINO's are chains, there and back again, through weights of their own as in a tower.
    """
    import openvino
    import torch
    from openvino import opset13 as ops

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    random, core = np.random.default_rng(0), openvino.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": precision}
    runs: dict[tuple[str, int], tuple[Run, float]] = {}
    for side in SIDES:
        pairs = CHAINED // side
        operations = 2 * pairs * 2.0 * ROWS * WIDTH * side
        left, right = torch.randn(ROWS, WIDTH).to(dtype), torch.randn(WIDTH, side).to(dtype)
        runs["torch", side] = (
            functools.partial(repeat, functools.partial(torch.matmul, left, right), 2 * pairs),
            operations,
        )
        value = rows = ops.parameter([ROWS, WIDTH], openvino.Type.f32)
        for _ in range(pairs):
            for shape in ((WIDTH, side), (side, WIDTH)):
                weights = ops.constant(random.normal(0, shape[0] ** -0.5, shape).astype(np.float32))
                value = ops.matmul(value, weights, transpose_a=False, transpose_b=False)
        last = ops.reduce_max(value, ops.constant(np.array([0])), keep_dims=False)
        request = core.compile_model(openvino.Model([last], [rows], "products"), "CPU", config).create_infer_request()
        request.set_input_tensor(openvino.Tensor(random.normal(size=(ROWS, WIDTH)).astype(np.float32)))
        runs["openvino", side] = request.infer, operations
    return runs


def allow_rate(rates: dict[tuple[str, int], float], runtime: str) -> float:
    """Operations/s that a runtime's plain products allow for a layer, each shape at its own rate."""
    work = {side: times * side for side, times in SIDES.items()}
    return sum(work.values()) / sum(work[side] / rates[runtime, side] for side in SIDES)


def open_available(bundle: Bundle, role: Any) -> dict[str, Any]:
    """An encoder for each runtime and precision that is available here."""
    found = {}
    for runtime in parity.RUNTIMES:
        for precision in ("f32", "bf16", "f16", "int8"):
            try:
                found[f"{runtime} {precision}"] = open_encoder(
                    bundle, role, RuntimeOptions(runtime=runtime, device="cpu", precision=precision)
                )
            except RuntimeUnavailableError as error:
                print(f"not available: {error.message}")
    return found


def compare_image_towers(model: Any, bundle: Bundle, files: list[Path], rounds: int) -> list[dict[str, Any]]:
    """Batches of 32 images through every image tower."""
    import torch

    images = np.resize(load_batch(files, bundle.card.image), (BATCH, *[bundle.card.image.size] * 2, 3))
    pixels = parity.normalise_pixels(images)

    def run_transformers() -> None:
        with torch.inference_mode():
            model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

    encoders = open_available(bundle, "image")
    runs: dict[str, Run] = {"transformers f32": run_transformers}
    runs |= {name: functools.partial(encoder, images) for name, encoder in encoders.items()}
    precisions = [name.rpartition(" ")[2] for name in encoders if name.startswith("openvino")]
    products = {kind: make_products(kind) for kind in precisions if kind in ("f32", "bf16")}
    plain = {f"{kind} {name}": run for kind, found in products.items() for name, (run, _) in found.items()}
    seconds = measure(runs | plain, rounds)
    rates = {
        kind: {name: count / statistics.median(seconds[f"{kind} {name}"]) for name, (_, count) in found.items()}
        for kind, found in products.items()
    }
    operations = count_operations(find_tower(bundle, "image"), {"image": list(images.shape)})
    reference = embed_unit(encoders["openvino f32"], images)
    rows = []
    for name in runs:
        times = seconds[name]
        ratios = [base / own for base, own in zip(seconds["transformers f32"], times, strict=True)]
        row: dict[str, Any] = {
            "what": "image tower, batch 32",
            "name": name,
            "per_s": BATCH / statistics.median(times),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
        if name in encoders:
            row["cosine_min"] = float((embed_unit(encoders[name], images) * reference).sum(axis=1).min())
            kind = name.rpartition(" ")[2]
            if kind in rates:
                row["gflops"] = operations / statistics.median(times) / 1e9
                for runtime in ("torch", "openvino"):
                    row[f"{runtime}_products_gflops"] = allow_rate(rates[kind], runtime) / 1e9
                    row[f"share_of_{runtime}_products"] = row["gflops"] / row[f"{runtime}_products_gflops"]
        rows.append(row)
    return rows


def embed_unit(encoder: Any, batch: Any) -> Any:
    """Unit rows in float64."""
    return parity.unit(encoder(batch))


def compare_text_towers(model: Any, bundle: Bundle, rounds: int) -> list[dict[str, Any]]:
    """The 1,000 class names, encoders and padding alone (tokenizing is measured elsewhere)."""
    import torch

    names = list(prompts.read_labels("imagenet").names)
    rows = []
    for precision in ("f32", "bf16", "int8"):
        try:
            ours = Model(bundle, RuntimeOptions(runtime="openvino", precision=precision), towers=["text"])
        except RuntimeUnavailableError as error:
            print(f"not available: {error.message}")
            continue
        tokens = [
            torch.from_numpy(row.astype(np.int64))
            for row in open_tokenizer(bundle.tokenizer, bundle.card.text).encode_ragged(names)
        ]

        def run_transformers(length: int | None, count: int, tokens: list[Any] = tokens) -> None:
            with torch.inference_mode():
                for start in range(0, count, BATCH):
                    part = tokens[start : min(start + BATCH, count)]
                    side = length or max(map(len, part))
                    ids = torch.full((len(part), side), 49407)
                    for row, own in zip(ids, part, strict=True):
                        row[: len(own)] = own
                    mask = torch.arange(side)[None] < torch.tensor([len(own) for own in part])[:, None]
                    model.text_projection(model.text_model(input_ids=ids, attention_mask=mask).pooler_output)

        runs: dict[str, Run] = {
            "transformers f32, padded to the longest": functools.partial(run_transformers, None, len(names)),
            "transformers f32, padded to 77": functools.partial(run_transformers, 77, PADDED),
            f"openvino {precision}": functools.partial(ours.embed_texts, names),
        }
        if precision != "int8":
            other = Model(bundle, RuntimeOptions(runtime="torch", device="cpu", precision=precision), towers=["text"])
            runs[f"torch {precision}"] = functools.partial(other.embed_texts, names)
        seconds = measure(runs, rounds)
        own = seconds[f"openvino {precision}"]
        for name, times in seconds.items():
            count = PADDED if name.endswith("77") else len(names)
            ratios = [theirs / count * len(names) / mine for theirs, mine in zip(times, own, strict=True)]
            rows.append(
                {
                    "what": f"1,000 class names, against openvino {precision}",
                    "name": name,
                    "per_s": count / statistics.median(times),
                    "times_slower": statistics.median(ratios),
                }
            )
        ours.close()
    return rows


def time_prompts(bundle: Bundle, count: int, precision: str) -> dict[str, Any]:
    """80 templates times 1,000 names, tokenizing included."""
    names, templates = prompts.read_labels("imagenet").names, prompts.read_templates("openai-80")
    texts = prompts.fill_templates(names, templates)[:count]
    with Model(bundle, RuntimeOptions(runtime="openvino", precision=precision), towers=["text"]) as model:
        start = time.perf_counter()
        model.embed_texts(texts)
        seconds = time.perf_counter() - start
    return {"what": f"{len(texts)} prompts", "name": f"openvino {precision}", "seconds": seconds}


def main() -> None:
    """Measure and print every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=Path, help="folder of images; default: those of scikit-image")
    parser.add_argument("--int8", action="store_true", help="make int8 towers too, calibrated on the photographs")
    parser.add_argument("--prompts", type=int, default=0, metavar="N", help="time N of the 80,000 prompts too")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        model = parity.draw_model(parity.SHAPES["B/32"], "quick_gelu", 2, Path(scratch) / "checkpoint")
        bundle = convert_checkpoint(Path(scratch) / "checkpoint", Path(scratch) / "bundle")
        if args.int8:
            chosen = parity.list_images(args.photographs, BATCH + CALIBRATION)[BATCH:]
            bundle = quantize_towers(bundle, load_batch(chosen, bundle.card.image))
        rows += compare_image_towers(model, bundle, parity.list_images(args.photographs, BATCH), args.rounds)
        rows += compare_text_towers(model, bundle, args.rounds)
        if args.prompts:
            rows.append(time_prompts(bundle, args.prompts, "auto"))
    for row in rows:
        print(json.dumps(row))
    if args.json:
        record = {"environment": dataclasses.asdict(describe_environment()), "rows": rows}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
