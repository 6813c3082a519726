"""Traps for ``clipworks doctor``: small models and other people's pipelines with one fault each."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from convert_checkpoints import MEAN, MODELS, STD, draw_tensors, write_huggingface, write_json
from PIL import Image

from clipworks.bundle.card import DropAlpha, ImageSpec
from clipworks.bundle.files import Bundle, write_card
from clipworks.convert import convert_checkpoint, read_checkpoint
from clipworks.doctor.diagnosis import About
from clipworks.doctor.dumps import Dump, write_dump
from clipworks.doctor.inputs import TEXTS, list_images
from clipworks.doctor.pipelines import Inputs, open_equations, run_pipeline
from clipworks.doctor.stages import Array, Trace
from clipworks.export.graph import Graph, build_graph
from clipworks.images.decode import ImageLike, load_image
from clipworks.images.resize import crop_image, resize_image
from clipworks.options import Alpha, ImageOptions
from clipworks.scoring import softmax
from clipworks.text.tokenizers import Ids, Tokenizer
from clipworks.towers.files import read_tower
from clipworks.towers.reference import run_layer
from clipworks.towers.weights import TowerWeights

MODEL = MODELS["quick"]
Patch = pytest.MonkeyPatch


def make_bundle(folder: Path, **changes: Any) -> Bundle:
    """The small model, with some facts of its configuration changed."""
    source = write_huggingface(folder / "source", dataclasses.replace(MODEL, **changes))
    return convert_checkpoint(source, folder / "bundle")


def change_card(bundle: Bundle, folder: Path, **changes: Any) -> Bundle:
    """A copy of a bundle whose card says something else."""
    shutil.copytree(bundle.folder, folder)
    return write_card(folder, dataclasses.replace(bundle.card, **changes))


def change_mean(folder: Path) -> Bundle:
    """A bundle that was converted with a mean of 0.5 and a deviation of 0.5."""
    source = write_huggingface(folder / "source", MODEL)
    values = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    write_json(source / "preprocessor_config.json", {**values, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    return convert_checkpoint(source, folder / "bundle")


def swap_merges(bundle: Bundle, folder: Path) -> Bundle:
    """A bundle whose tokenizer.json has two merges exchanged that the word "photo" needs in their order."""
    copy = change_card(bundle, folder)
    content = json.loads(copy.tokenizer.read_text(encoding="utf-8"))
    merges = content["model"]["merges"]
    words = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    first, second = words.index("p h"), words.index("h o")
    merges[first], merges[second] = merges[second], merges[first]
    copy.tokenizer.write_text(json.dumps(content), encoding="utf-8")
    return write_card(folder, copy.card)


def overflow_f16(folder: Path, patch: Patch) -> Bundle:
    """A bundle whose graphs are f16 through and through, and whose weights take the second image layer past 65,504.

    ONNX Runtime really computes it: products may be summed in f32, but every value between nodes is an f16.
    """
    tensors = draw_tensors(MODEL)
    tensors["vision_model.encoder.layers.1.mlp.fc2.weight"] *= 5e4
    source = write_huggingface(folder / "source", MODEL, tensors)
    bundle = convert_checkpoint(source, folder / "bundle")
    patch.setattr("clipworks.runtimes.onnxruntime.load_graph", lambda tower, *_: halve(build_graph(read_tower(tower))))
    files = dataclasses.replace(bundle.card.towers["f32"], weights="f16")
    return write_card(bundle.folder, dataclasses.replace(bundle.card, towers={"f32": files}))


def halve(tower: Graph) -> bytes:
    """Bring a graph's weights and values to f16; the embedding stays f32."""
    model = onnx.load_from_string(tower.content)
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
    last = next(node for node in graph.node if node.output[0] == graph.output[0].name)
    last.output[0] = "half"
    graph.node.append(onnx.helper.make_node("Cast", ["half"], [graph.output[0].name], to=onnx.TensorProto.FLOAT))
    content: bytes = model.SerializeToString()
    return content


# What other people's pipelines do differently; each changes one step of ours while their dump is made.


def plant_nothing(patch: Patch) -> None:  # the form of a fault
    pass


def floor_crop(patch: Patch) -> None:
    def crop(image: Image.Image, spec: ImageSpec) -> Array:
        left, top = (image.width - spec.size) // 2, (image.height - spec.size) // 2
        return np.asarray(image.crop((left, top, left + spec.size, top + spec.size)))

    patch.setattr("clipworks.doctor.images.crop_image", crop)


def resize_bilinear(patch: Patch) -> None:
    def resize(image: Image.Image, spec: ImageSpec) -> Image.Image:
        return resize_image(image, dataclasses.replace(spec, interpolation="bilinear"))

    patch.setattr("clipworks.doctor.images.resize_image", resize)


def squash(patch: Patch) -> None:
    def resize(image: Image.Image, spec: ImageSpec) -> Image.Image:
        return resize_image(image, dataclasses.replace(spec, resize="squash"))

    patch.setattr("clipworks.doctor.images.resize_image", resize)


def resize_without_antialiasing(patch: Patch) -> None:
    def resize(image: Image.Image, spec: ImageSpec) -> Image.Image:
        width, height = (int(spec.size * side / min(image.size)) for side in image.size)
        steps = (image.width / width, 0, 0, 0, image.height / height, 0)
        return image.transform((width, height), Image.Transform.AFFINE, steps, Image.Resampling.BICUBIC)

    patch.setattr("clipworks.doctor.images.resize_image", resize)


def read_as_bgr(patch: Patch) -> None:
    def load(image: ImageLike, *, options: ImageOptions, drop_alpha: DropAlpha) -> Image.Image:
        return Image.fromarray(np.asarray(load_image(image, options=options, drop_alpha=drop_alpha))[..., ::-1])

    patch.setattr("clipworks.doctor.images.load_image", load)


def treat_alpha(alpha: Alpha) -> Callable[[Patch], None]:
    """A pipeline that treats alpha in a way of its own, whatever the model's card says."""

    def plant(patch: Patch) -> None:
        def load(image: ImageLike, *, options: ImageOptions, drop_alpha: DropAlpha) -> Image.Image:
            return load_image(image, options=dataclasses.replace(options, alpha=alpha), drop_alpha=drop_alpha)

        patch.setattr("clipworks.doctor.images.load_image", load)

    return plant


def lay_over_black(patch: Patch) -> None:
    def load(image: ImageLike, *, options: ImageOptions, drop_alpha: DropAlpha) -> Image.Image:  # noqa: ARG001
        rgba = Image.open(str(image)).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")

    patch.setattr("clipworks.doctor.images.load_image", load)


def crop_to_bgr(patch: Patch) -> None:
    def crop(image: Image.Image, spec: ImageSpec) -> Array:
        return crop_image(image, spec)[..., ::-1]

    patch.setattr("clipworks.doctor.images.crop_image", crop)


def use_exact_gelu(patch: Patch) -> None:
    def run(layer: Any, rows: Any, lengths: Any, weights: TowerWeights) -> Any:
        spec = dataclasses.replace(weights.spec, activation="gelu")
        return run_layer(layer, rows, lengths, dataclasses.replace(weights, spec=spec))

    patch.setattr("clipworks.doctor.equations.run_layer", run)


def leave_out_mask(patch: Patch) -> None:
    def run(layer: Any, rows: Any, lengths: Any, weights: TowerWeights) -> Any:
        spec = dataclasses.replace(weights.spec, mask="none")
        return run_layer(layer, rows, lengths, dataclasses.replace(weights, spec=spec))

    patch.setattr("clipworks.doctor.equations.run_layer", run)


def pool_first(patch: Patch) -> None:
    """What an end token of 2 gives that is looked for, and not found."""
    patch.setattr("clipworks.doctor.equations.find_pooled", lambda *_: 0)


def pool_before_last(patch: Patch) -> None:
    patch.setattr("clipworks.doctor.equations.find_pooled", lambda _, ids: len(ids) - 2)


def leave_out_norm(patch: Patch) -> None:
    def project(rows: Any, weights: Any) -> Any:
        return rows @ weights.head.weight.astype(np.float64)

    patch.setattr("clipworks.doctor.equations.project_rows", project)


def leave_out_lengths(patch: Patch) -> None:
    patch.setattr("clipworks.doctor.joint.unit_rows", lambda rows: rows)


def leave_out_scale(patch: Patch) -> None:
    def score(cosines: Any, scale: float) -> Any:  # noqa: ARG001  # that is the fault
        return softmax(cosines, 1.0)

    patch.setattr("clipworks.scoring.softmax", score)


def cut_end_token(patch: Patch) -> None:
    original = Tokenizer.encode_ragged

    def encode(self: Tokenizer, texts: Sequence[str], *, truncate: bool = False) -> list[Ids]:  # noqa: ARG001
        whole = original(dataclasses.replace(self, text=dataclasses.replace(self.text, context=10_000)), texts)
        return [row[: self.text.context] for row in whole]

    patch.setattr(Tokenizer, "encode_ragged", encode)


def rescale_twice(trace: Trace) -> None:
    mean, std = np.array(MEAN), np.array(STD)
    trace["normalised"] = [((array * std + mean) / 255 - mean) / std for array in trace["normalised"]]
    keep_only(trace, "decoded", "resized", "pixels", "normalised", "ids")


def keep_only(trace: Trace, *names: str) -> None:
    """Leave out all other stages."""
    for name in set(trace) - set(names):
        del trace[name]


def make_dump(
    source: Path,
    path: Path,
    plant: Callable[[Patch], None],
    edit: Callable[[Trace], None] | None = None,
    images: Sequence[str] | None = None,
) -> Path:
    """What a pipeline with a fault would dump, run on the plain equations with the checkpoint's weights."""
    checkpoint = read_checkpoint(source)
    weights = (checkpoint.image, checkpoint.text)
    about = About(kind="checkpoint", name="theirs")
    pipeline = open_equations(about, weights, checkpoint.image_input, checkpoint.text_input, checkpoint.score, None)
    files = tuple(images or list_images())
    inputs = Inputs(images=files, texts=TEXTS)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        trace = run_pipeline(pipeline, inputs).trace
    if edit is not None:
        edit(trace)
    write_dump(path, Dump(trace=trace, texts=TEXTS, images=files))
    return path
