"""The CLIP equations in plain numpy, straight from a checkpoint's tensors.

Nothing is folded, fused or left out here: each step is the published one, and shares no code with the graph builder,
so that the two can prove each other. It is slow; a few inputs are enough.

Source: Radford et al. 2021 and the published model code of OpenAI, open_clip and transformers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import ImageInput
from clipworks.towers.weights import Activation, ImageWeights, Layer, Linear, Norm, Stack, TextWeights

Values = npt.NDArray[np.float64]


def embed_images(weights: ImageWeights, preprocessing: ImageInput, images: npt.NDArray[np.uint8]) -> Values:
    """Embed pictures.

    Args:
        weights: the image tower.
        preprocessing: mean and std are taken from here.
        images: uint8 ``[n, size, size, 3]`` RGB.

    Returns:
        float64 ``[n, dim]``, not normalised.
    """
    rows = embed_patches(weights, normalise_pixels(images, preprocessing))
    count, length, width = rows.shape
    rows = _run(rows.reshape(-1, width), [length] * count, weights.stack, causal=False)
    return project_rows(rows.reshape(count, length, width)[:, 0], weights)


def embed_texts(weights: TextWeights, texts: Sequence[npt.NDArray[np.int32]]) -> Values:
    """Embed token rows, each of its own length.

    Args:
        weights: the text tower.
        texts: int32 ``[length]`` each.

    Returns:
        float64 ``[n, dim]``, not normalised.
    """
    lengths = [len(ids) for ids in texts]
    rows = _run(np.concatenate([embed_tokens(weights, ids) for ids in texts]), lengths, weights.stack, causal=True)
    starts = np.cumsum([0, *lengths[:-1]])
    places = [start + find_pooled(weights, ids) for start, ids in zip(starts, texts, strict=True)]
    return project_rows(rows[places], weights)


def normalise_pixels(images: npt.NDArray[np.uint8], preprocessing: ImageInput) -> Values:
    """Pixels 0..255 to 0..1, less the mean, over the deviation: ``[..., 3]`` to float64 of the same shape."""
    normal: Values = (images / 255.0 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    return normal


def embed_patches(weights: ImageWeights, pixels: Values) -> Values:
    """Rows of the first layer: normalised pixels ``[n, size, size, 3]`` to ``[n, 1 + grid * grid, width]``."""
    width, _, side, _ = weights.patch.shape
    grid = weights.size // side
    kernel = weights.patch.astype(np.float64)
    rows = np.empty((len(pixels), 1 + grid * grid, width))
    rows[:, 0] = weights.class_token
    for row in range(grid):
        for column in range(grid):
            patch = pixels[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            rows[:, 1 + row * grid + column] = np.tensordot(patch, kernel, axes=([1, 2, 3], [2, 3, 1]))
    return _normalise(rows + weights.positions, weights.pre_norm, weights.stack.epsilon)


def embed_tokens(weights: TextWeights, ids: npt.NDArray[np.int32]) -> Values:
    """Rows of the first layer: token ids ``[length]`` to ``[length, width]``."""
    rows: Values = weights.tokens[ids].astype(np.float64) + weights.positions[: len(ids)]
    return rows


def find_pooled(weights: TextWeights, ids: npt.NDArray[np.int32]) -> int:
    """The row that becomes the embedding: the first of the largest id, or the first end token."""
    return int(np.argmax(ids if weights.pooling == "argmax" else ids == weights.end_id))


def project_rows(rows: Values, weights: ImageWeights | TextWeights) -> Values:
    """Rows of the last layer, normalised and projected: ``[..., width]`` to ``[..., dim]``."""
    norm = weights.post_norm if isinstance(weights, ImageWeights) else weights.final_norm
    embedded: Values = _normalise(rows, norm, weights.stack.epsilon) @ weights.projection.T.astype(np.float64)
    return embedded


def run_layer(layer: Layer, rows: Values, lengths: Sequence[int], stack: Stack, *, causal: bool) -> Values:
    """One layer; the rows of all sequences, ``[sum of lengths, width]``, lie one after another."""
    packed = _apply(layer.qkv, _normalise(rows, layer.attention_norm, stack.epsilon))
    sequences = np.split(packed, np.cumsum(lengths)[:-1])
    means = np.concatenate([_attend(sequence, stack.heads, causal=causal) for sequence in sequences])
    rows = rows + _apply(layer.out, means)
    inner = _apply(layer.expand, _normalise(rows, layer.mlp_norm, stack.epsilon))
    return rows + _apply(layer.contract, _activate(inner, stack.activation))


def _run(rows: Values, lengths: Sequence[int], stack: Stack, *, causal: bool) -> Values:
    """All layers, as `run_layer`."""
    for layer in stack.layers:
        rows = run_layer(layer, rows, lengths, stack, causal=causal)
    return rows


def _attend(packed: Values, heads: int, *, causal: bool) -> Values:
    """Attention in one sequence: queries, keys and values ``[length, 3 width]`` to ``[length, width]``."""
    length, width = packed.shape[0], packed.shape[1] // 3
    query, key, value = (part.reshape(length, heads, -1).transpose(1, 0, 2) for part in np.split(packed, 3, axis=-1))
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // heads)
    if causal:
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    means: Values = (weights @ value).transpose(1, 0, 2).reshape(length, width)
    return means


def _activate(values: Values, activation: Activation) -> Values:
    if activation == "quick_gelu":
        activated: Values = values / (1 + np.exp(-1.702 * values))
    else:
        activated = values * 0.5 * (1 + _erf(values / math.sqrt(2)))
    return activated


def _erf(values: Values) -> Values:
    """The error function, by cubic Hermite interpolation of the exact one: within 1e-13."""
    place = np.clip(values, -_ERF_END, _ERF_END) / _ERF_STEP + _ERF_END / _ERF_STEP
    left = np.minimum(place.astype(np.intp), len(_ERF_NODES) - 2)
    share = place - left
    rise = _ERF_VALUES[left + 1] - _ERF_VALUES[left]
    start, end = _ERF_SLOPES[left] - rise, rise - _ERF_SLOPES[left + 1]
    found: Values = _ERF_VALUES[left] + share * (rise + (1 - share) * ((1 - share) * start + share * end))
    return found


_ERF_END, _ERF_STEP = 6.0, 2.0**-11
_ERF_NODES = np.arange(-_ERF_END, _ERF_END + _ERF_STEP, _ERF_STEP)
_ERF_VALUES = np.array([math.erf(node) for node in _ERF_NODES])
_ERF_SLOPES = _ERF_STEP * 2 / math.sqrt(math.pi) * np.exp(-(_ERF_NODES**2))


def _normalise(values: Values, norm: Norm, epsilon: float) -> Values:
    centred = values - values.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    normal: Values = centred / np.sqrt(variance + epsilon) * norm.gain + norm.shift
    return normal


def _apply(linear: Linear, values: Values) -> Values:
    mapped: Values = values @ linear.weight.T.astype(np.float64) + linear.bias
    return mapped
