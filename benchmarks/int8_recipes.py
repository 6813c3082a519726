"""Ways to make an image tower int8, side by side: how near to f32 each stays, and how fast it is.

    python benchmarks/int8_recipes.py PHOTOGRAPHS [--rounds 5] [--json FILE]

ViT-B/32 shapes, random weights. Ours is static: balanced channels, cut ranges, weights rounded together. Beside it the
same without these three (largest value, nearest integer), and dynamic activations with per-channel weights, which need
no calibration: OpenVINO's, by groups of channels of each token, and ONNX Runtime's, by whole values. Agreement is of
the best of 100 class names. The calibration images are not those that are compared.

Needs torch and transformers to draw the weights; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import parity
import towers

from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint, quantize, quantize_towers
from clipworks.convert.rounding import LEVELS, InputScale, QuantizedWeights
from clipworks.environment import describe_environment
from clipworks.export.graph import build_graph
from clipworks.families.preprocessing import openai_preprocessing
from clipworks.images.decode import load_batch
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.runtimes import open_encoder
from clipworks.text import prompts
from clipworks.towers.files import read_tower
from clipworks.towers.stored import find_tower

IMAGES, CALIBRATION, NAMES, BATCH = 192, 96, 100, 32
GROUPS = (32, 128)
TEXTS = ("a dog", "a cat")  # the text tower is not looked at


def round_to_nearest(weights: Any) -> QuantizedWeights:
    """Weights ``[in, out]`` to int8, each to the nearest step of its output's scale."""
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-12) / LEVELS
    steps = np.clip(np.round(weights / scales), -LEVELS, LEVELS).astype(np.int8)
    return QuantizedWeights(weight=steps, scales=scales.astype(np.float32))


def quantize_plainly(bundle: Bundle, images: Any) -> Bundle:
    """The static recipe without balancing, cut ranges, and weights that make up for each other's errors."""
    plain: Any = {
        "balance_channels": lambda largest, weights: np.ones(len(weights), np.float32),  # noqa: ARG005  # as in quantize
        "choose_scale": lambda rows, largest, weights: InputScale(scale=largest / LEVELS, zero_point=0, kind="int8"),  # noqa: ARG005
        "round_weights": lambda rows, weights: round_to_nearest(weights),  # noqa: ARG005  # as in quantize
    }
    with mock.patch.multiple(quantize, **plain):
        return quantize_towers(bundle, images, texts=TEXTS)


def write_weights_only(source: Path, target: Path) -> None:
    """int8 weights alone, for runtimes that quantise activations as they come."""
    model = onnx.load(source)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    for node in products[:-1]:  # the last one is the projection
        name = node.input[1]
        rounded = round_to_nearest(onnx.numpy_helper.to_array(constants[name]))
        parts = {f"{name}.weight": rounded.weight, f"{name}.scale": rounded.scales}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in parts.items())
        node.input[1] = f"{name}.rounded"
        model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", list(parts), [node.input[1]], axis=1))
        model.graph.initializer.remove(constants[name])
    onnx.save(model, target)


def open_openvino(path: Path, group: int) -> Any:
    """A function from images to embeddings, with activations quantised by groups of channels."""
    import openvino

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group),
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()
    return lambda images: np.array(request.infer({0: images})[0])


def open_onnxruntime(source: Path, target: Path) -> Any:
    """The same by ONNX Runtime's own dynamic quantisation, with one scale a channel of the weights."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source).graph
    flat = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    quantize_dynamic(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        nodes_to_exclude=[node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] not in flat],
    )
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def open_recipes(checkpoint: Path, calibration: Any, folder: Path) -> tuple[Bundle, dict[str, Any]]:
    """The f32 bundle, and a function from images to embeddings for every recipe."""
    bundle = convert_checkpoint(checkpoint, folder / "ours")
    plain = folder / "plain.onnx"
    plain.write_bytes(build_graph(read_tower(find_tower(bundle, "image"))).content)
    write_weights_only(plain, folder / "weights.onnx")
    ways = {
        "static, ours": quantize_towers(bundle, calibration, texts=TEXTS),
        "static, plain": quantize_plainly(convert_checkpoint(checkpoint, folder / "plain"), calibration),
    }
    runs: dict[str, Any] = {}
    for runtime in ("openvino", "onnxruntime"):
        runs[f"f32, {runtime}"] = open_encoder(bundle, "image", RuntimeOptions(runtime=runtime, precision="f32"))
        for name, own in ways.items():
            runs[f"{name}, {runtime}"] = open_encoder(own, "image", RuntimeOptions(runtime=runtime, precision="int8"))
    for group in GROUPS:
        runs[f"dynamic, groups of {group}, openvino"] = open_openvino(folder / "weights.onnx", group)
    runs["dynamic, whole values, onnxruntime"] = open_onnxruntime(plain, folder / "dynamic.onnx")
    return bundle, runs


def main() -> None:
    """Make, compare, time and print every recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        parity.draw_model(parity.SHAPES["B/32"], "quick_gelu", 2, Path(scratch) / "checkpoint")
        files = parity.list_images(args.photographs, IMAGES + CALIBRATION)
        calibration = load_batch(files[IMAGES:], openai_preprocessing(224))
        bundle, runs = open_recipes(Path(scratch) / "checkpoint", calibration, Path(scratch))
        images = load_batch(files[:IMAGES], bundle.card.image)
        with Model(bundle, RuntimeOptions(runtime="openvino", precision="f32"), towers=["text"]) as model:
            head = model.embed_texts(list(prompts.read_labels("imagenet").names[:NAMES]))
        seconds = towers.measure(
            {name: functools.partial(run, images[:BATCH]) for name, run in runs.items()}, args.rounds
        )
        reference = parity.unit(runs["f32, openvino"](images))
        for name, run in runs.items():
            found = parity.unit(np.concatenate([run(images[at : at + BATCH]) for at in range(0, IMAGES, BATCH)]))
            cosines = (found * reference).sum(axis=1)
            same = (found @ head.T).argmax(axis=1) == (reference @ head.T).argmax(axis=1)
            row = {
                "recipe": name,
                "images_per_s": BATCH / statistics.median(seconds[name]),
                "cosine_min": float(cosines.min()),
                "cosine_median": float(np.median(cosines)),
                "top1_agreement": float(same.mean()),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    if args.json:
        record = {"environment": dataclasses.asdict(describe_environment()), "rows": rows}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
