"""int8 towers, made from the f32 towers of a bundle and from inputs like those that they will see.

The recipe: the maps that all rows pass (not those that the pooled rows alone pass in the last layer) and the patch
embedding in int8, weights symmetric per output channel, activations static per tensor; normalisations, softmax,
attention products, residual sums, the pooled rows' maps and the projection in float. What keeps the accuracy:

- large channels of a map's input are made smaller and the weights behind them larger, which is exact: the
  normalisation before takes the factors, or for the output map the values' weights;
- the range of each activation is cut where the error of the map's output is smallest on the calibration inputs;
- weights are rounded one row after another, each making up for the errors of those before;
- the mean of the error that is left is taken out of the bias;
- the patch embedding's input, pixels less 128, is int8 already and loses nothing.

The graphs say this with QuantizeLinear and DequantizeLinear, which engines turn into int8 products.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from clipworks.bundle.card import TowerFiles
from clipworks.bundle.files import Bundle, write_card
from clipworks.errors import ConversionError
from clipworks.export.calibration import Sample, collect_samples, split_pictures, split_texts
from clipworks.export.quantize_graph import MapGroup, TowerGraph, find_groups
from clipworks.export.rounding import EXACT, balance_channels, choose_grid, round_weights
from clipworks.families import clip
from clipworks.text.tokenizers import open_tokenizer

FILES = TowerFiles(kind="onnx", image="image.int8.onnx", text="text.int8.onnx", weights="int8")
FEWEST_PICTURES = 16

_TEMPLATES = ("{}", "a photo of a {}.", "a bad photo of the {}.", "a drawing of the large {} in the snow", "{} (2021)")
_NAMES = (
    "dog; red apple; aircraft carrier; mountain bike; great white shark; espresso; old man with a hat; wedding; map; "
    "traffic light at night; screenshot of a web page; Persian cat; street in Paris; bowl of noodle soup; violin; "
    "electric guitar; baby elephant; football match; birthday card; tree; laptop computer; stained glass window; "
    "handwritten note; sunset over the sea; subway map; bridge; X-ray of a hand; city skyline; tulip; excavator"
)


def quantize_towers(bundle: Bundle, pictures: npt.NDArray[np.uint8], *, texts: Sequence[str] | None = None) -> Bundle:
    """Add int8 towers to a bundle that `convert_checkpoint` made. Takes minutes.

    Args:
        bundle: it gets ``image.int8.onnx``, ``text.int8.onnx`` and a new card.
        pictures: uint8 ``[n, size, size, 3]`` to calibrate on, at least 16, better a hundred, like those that the
            model will see.
        texts: prompts to calibrate on; else 150 everyday ones.

    Returns:
        The bundle, with ``int8`` among its towers.

    Raises:
        ConversionError: too few pictures, or of another size; or the towers are not ours.
    """
    card, size = bundle.card, bundle.card.image.size
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (size, size, 3):
        raise ConversionError(
            f"calibration pictures are {pictures.dtype} {list(pictures.shape)}; allowed: uint8 [n, {size}, {size}, 3]"
        )
    if len(pictures) < FEWEST_PICTURES:
        raise ConversionError(
            f"{len(pictures)} calibration pictures are too few; allowed: {FEWEST_PICTURES} or more",
            hint="a hundred pictures like those that the model will see are best",
        )
    prompts = list(texts) if texts is not None else _list_prompts()
    ids = open_tokenizer(bundle.tokenizer, card.text).encode(prompts)
    files = card.towers["f32"]
    _quantize_tower(bundle.folder / files.image, bundle.folder / FILES.image, split_pictures(pictures))
    _quantize_tower(bundle.folder / files.text, bundle.folder / FILES.text, split_texts(ids, clip.END))
    return write_card(bundle.folder, dataclasses.replace(card, towers={**card.towers, "int8": FILES}))


def _list_prompts() -> list[str]:
    return [pattern.format(name) for pattern in _TEMPLATES for name in _NAMES.split("; ")]


def _quantize_tower(source: Path, target: Path, batches: Sequence[npt.NDArray[Any]]) -> None:
    """Write the int8 version of one tower."""
    model = onnx.load(source)
    groups = find_groups(model)
    if not groups:
        raise ConversionError(
            f"{source.name} has no layers of ours: only towers that clipworks converted from a checkpoint become int8"
        )
    samples = collect_samples(source, [group.value for group in groups], batches)
    graph = TowerGraph(model)
    factors = {group.value: _balance(graph, group, samples[group.value]) for group in groups}
    for group in groups:
        _round_group(graph, group, samples.pop(group.value), factors[group.value])
    graph.finish()
    temporary = target.with_name(f".{target.name}")
    temporary.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(temporary))
    temporary.replace(target)


def _balance(graph: TowerGraph, group: MapGroup, sample: Sample) -> npt.NDArray[np.float32]:
    """Move the excess of a value's channels into the weights behind it, where something before it can take them."""
    weights = np.concatenate([graph.constant(name) for name in group.weights], axis=1)
    if group.before is None:
        return np.ones(len(weights), np.float32)
    factors = balance_channels(sample.largest, weights)
    graph.replace(group.before, graph.constant(group.before) / factors)  # a gain, or the columns of weights
    for name in group.weights:
        graph.replace(name, graph.constant(name) * factors[:, None])
    return factors


def _round_group(graph: TowerGraph, group: MapGroup, sample: Sample, factors: npt.NDArray[np.float32]) -> None:
    """Bring one value and the weights of every map that takes it to int8."""
    parts = [graph.constant(name) for name in group.weights]
    weights = np.concatenate(parts, axis=1)
    rows = sample.rows / factors
    grid = EXACT if group.exact else choose_grid(rows, float((sample.largest / factors).max()), weights)
    rounded_rows = grid.round(rows)
    rounded = round_weights(rounded_rows, weights)
    lost = rows.mean(axis=0) @ weights - rounded_rows.mean(axis=0) @ rounded.values
    graph.insert_grid(group, grid)
    ends = np.cumsum([part.shape[1] for part in parts])
    for index, end in enumerate(ends):
        part = slice(end - parts[index].shape[1], end)
        graph.insert_weights(group.weights[index], rounded.steps[:, part], rounded.scales[part])
        bias = group.biases[index]
        if bias is not None:
            graph.replace(bias, graph.constant(bias) + lost[part])
