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

from clipworks.cards import ImageInput
from clipworks.convert.checkpoint import Activation, Array, ImageWeights, Linear, Norm, Stack, TextWeights

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
    pixels = (images / 255.0 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    width, _, side, _ = weights.patch.shape
    grid = weights.size // side
    kernel = weights.patch.astype(np.float64)
    count = len(images)
    rows = np.empty((count, 1 + grid * grid, width))
    rows[:, 0] = weights.class_token
    for row in range(grid):
        for column in range(grid):
            patch = pixels[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            rows[:, 1 + row * grid + column] = np.tensordot(patch, kernel, axes=([1, 2, 3], [2, 3, 1]))
    rows = _normalise(rows + weights.positions, weights.pre_norm, weights.stack.epsilon).reshape(-1, width)
    rows = _run(rows, [1 + grid * grid] * count, weights.stack, causal=False)
    pooled = _normalise(rows.reshape(count, -1, width)[:, 0], weights.post_norm, weights.stack.epsilon)
    return _project(pooled, weights.projection)


def embed_texts(weights: TextWeights, texts: Sequence[npt.NDArray[np.int32]]) -> Values:
    """Embed token rows, each of its own length.

    Args:
        weights: the text tower.
        texts: int32 ``[length]`` each.

    Returns:
        float64 ``[n, dim]``, not normalised.
    """
    rows = np.concatenate([weights.tokens[ids].astype(np.float64) + weights.positions[: len(ids)] for ids in texts])
    lengths = [len(ids) for ids in texts]
    rows = _normalise(_run(rows, lengths, weights.stack, causal=True), weights.final_norm, weights.stack.epsilon)
    starts = np.cumsum([0, *lengths[:-1]])
    wanted = [ids if weights.pooling == "argmax" else ids == weights.end_id for ids in texts]
    places = [start + int(np.argmax(scores)) for start, scores in zip(starts, wanted, strict=True)]
    return _project(rows[places], weights.projection)


def _run(rows: Values, lengths: Sequence[int], stack: Stack, *, causal: bool) -> Values:
    """All layers; the rows of all sequences, ``[sum of lengths, width]``, lie one after another."""
    for layer in stack.layers:
        packed = _apply(layer.qkv, _normalise(rows, layer.attention_norm, stack.epsilon))
        sequences = np.split(packed, np.cumsum(lengths)[:-1])
        means = np.concatenate([_attend(sequence, stack.heads, causal=causal) for sequence in sequences])
        rows = rows + _apply(layer.out, means)
        inner = _apply(layer.expand, _normalise(rows, layer.mlp_norm, stack.epsilon))
        rows = rows + _apply(layer.contract, _activate(inner, stack.activation))
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


def _project(pooled: Values, projection: Array) -> Values:
    embedded: Values = pooled @ projection.T.astype(np.float64)
    return embedded


def _apply(linear: Linear, values: Values) -> Values:
    mapped: Values = values @ linear.weight.T.astype(np.float64) + linear.bias
    return mapped
