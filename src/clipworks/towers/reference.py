"""The equations of every family in numpy, of a checkpoint's own tensors or a bundle's folded ones.

Nothing is folded, fused or left out here: each step is the published one, and shares no code with the graph builder,
so that the two can prove each other. It is slow; a few inputs are enough.

Source: Radford et al. 2021, Zhai et al. 2023, and the published model code of OpenAI, open_clip, timm and transformers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import TowerSpec
from clipworks.towers.weights import ImageWeights, Layer, Linear, Norm, TextWeights, TowerWeights

Values = npt.NDArray[np.float64]


def embed_images(weights: ImageWeights, images: npt.NDArray[np.uint8]) -> Values:
    """Embed images.

    Args:
        weights: the image tower.
        images: uint8 ``[n, size, size, 3]`` RGB.

    Returns:
        float64 ``[n, dim]``, not normalised.
    """
    rows = embed_patches(weights, images)
    count, length, width = rows.shape
    rows = _run(rows.reshape(-1, width), [length] * count, weights)
    pooled = [pool_image(weights, each) for each in rows.reshape(count, length, width)]
    return project_rows(np.stack(pooled), weights)


def embed_texts(weights: TextWeights, texts: Sequence[npt.NDArray[np.int32]]) -> Values:
    """Embed token rows, each of its own length.

    Args:
        weights: the text tower.
        texts: int32 ``[length]`` each, for a tower without a mask with the padding that it sees; where padding is
            masked, it may stand behind a text or not.

    Returns:
        float64 ``[n, dim]``, not normalised.
    """
    if weights.pad_id is not None:  # no row that is asked for sees it
        texts = [ids[ids != weights.pad_id] for ids in texts]
    lengths = [len(ids) for ids in texts]
    rows = _run(np.concatenate([embed_tokens(weights, ids) for ids in texts]), lengths, weights)
    starts = np.cumsum([0, *lengths[:-1]])
    places = [start + find_pooled(weights, ids) for start, ids in zip(starts, texts, strict=True)]
    return project_rows(rows[places], weights)


def embed_patches(weights: ImageWeights, images: npt.NDArray[np.uint8]) -> Values:
    """Rows of the first layer: uint8 ``[n, size, size, 3]`` to ``[n, rows, width]``."""
    pixels: Values = (images / 255.0 - np.array(weights.mean)) / np.array(weights.std)
    side = weights.spec.patch_size or weights.size
    grid = weights.size // side
    rows = np.empty((len(pixels), len(weights.pos_embed), weights.spec.width))
    if weights.cls_token is not None:
        rows[:, 0] = weights.cls_token
    patches = rows[:, len(weights.pos_embed) - grid * grid :]
    for row in range(grid):
        for column in range(grid):
            patch = pixels[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            patches[:, row * grid + column] = _apply(weights.patch_embed, patch.reshape(len(pixels), -1))
    rows += weights.pos_embed
    return rows if weights.norm_pre is None else _normalise(rows, weights.norm_pre, weights.spec.norm_eps)


def embed_tokens(weights: TextWeights, ids: npt.NDArray[np.int32]) -> Values:
    """Rows of the first layer: token ids ``[length]`` to ``[length, width]``."""
    rows: Values = weights.token_embed[ids].astype(np.float64) + weights.pos_embed[: len(ids)]
    if weights.type_embed is not None:
        rows = rows + weights.type_embed
    return rows if weights.norm_pre is None else _normalise(rows, weights.norm_pre, weights.spec.norm_eps)


def find_pooled(weights: TextWeights, ids: npt.NDArray[np.int32]) -> int:
    """The row that becomes the embedding: the first, the last, the first of the largest id, or the first end token."""
    if weights.spec.pooling in ("cls", "last"):
        return 0 if weights.spec.pooling == "cls" else len(ids) - 1
    return int(np.argmax(ids if weights.end_id is None else ids == weights.end_id))


def pool_image(weights: ImageWeights, rows: Values) -> Values:
    """The rows ``[rows, width]`` behind the last layer of one image to the one that is projected: ``[width]``."""
    pool, epsilon = weights.attn_pool, weights.spec.norm_eps
    if pool is None:
        first: Values = rows[0]
        return first
    normal = _normalise(rows, weights.norm, epsilon)
    query = _apply(pool.q, pool.latent[None].astype(np.float64))
    means = _attend(query, _apply(pool.k, normal), _apply(pool.v, normal), heads=pool.heads, scale=pool.scale)
    joined = _apply(pool.proj, means)
    inner = _apply(pool.fc1, _normalise(joined, pool.norm, epsilon))
    pooled: Values = (joined + _apply(pool.fc2, _activate(inner, weights.spec.activation)))[0]
    return pooled


def project_rows(rows: Values, weights: TowerWeights) -> Values:
    """Pooled rows, normalised where they were not before, and projected: ``[..., width]`` to ``[..., dim]``."""
    pooled_by_attention = isinstance(weights, ImageWeights) and weights.attn_pool is not None
    if not pooled_by_attention and weights.norm is not None:
        rows = _normalise(rows, weights.norm, weights.spec.norm_eps)
    return rows if weights.head is None else _apply(weights.head, rows)


def run_layer(layer: Layer, rows: Values, lengths: Sequence[int], weights: TowerWeights) -> Values:
    """One layer; the rows of all sequences, ``[sum of lengths, width]``, lie one after another."""
    spec, ends = weights.spec, np.cumsum(lengths)[:-1]
    post = spec.norm_place == "post"
    normal = rows if post else _normalise(rows, layer.norm1, spec.norm_eps)
    queries, keys, values = (np.split(_apply(linear, normal), ends) for linear in (layer.q, layer.k, layer.v))
    if spec.rotation is not None:
        queries, keys = ([rotate(each, spec) for each in part] for part in (queries, keys))
    means = np.concatenate(
        [
            _attend(*each, heads=spec.heads or 1, scale=weights.scale, causal=spec.mask == "causal")
            for each in zip(queries, keys, values, strict=True)
        ]
    )
    rows = rows + _apply(layer.proj, means)
    if post:
        rows = _normalise(rows, layer.norm1, spec.norm_eps)
    inner = _apply(layer.fc1, rows if post else _normalise(rows, layer.norm2, spec.norm_eps))
    rows = rows + _apply(layer.fc2, _activate(inner, spec.activation))
    return _normalise(rows, layer.norm2, spec.norm_eps) if post else rows


def _run(rows: Values, lengths: Sequence[int], weights: TowerWeights) -> Values:
    """All layers, as `run_layer`."""
    for layer in weights.layers:
        rows = run_layer(layer, rows, lengths, weights)
    return rows


def rotate(rows: Values, spec: TowerSpec) -> Values:
    """Queries or keys ``[rows, width]`` of one image, turned by where their patches are; a CLS token's is left."""
    rotation, heads = spec.rotation, spec.heads or 1
    assert rotation is not None  # who asks has looked
    rotated = rows.reshape(len(rows), heads, 2, -1, 2).copy()  # by column or row, and pairs
    patches = rotated[1:] if spec.cls_token else rotated
    grid, count = math.isqrt(len(patches)), rotated.shape[3]
    for index, patch in enumerate(patches):
        for axis, place in enumerate((index % grid, index // grid)):
            angles = (place + rotation.offset) * rotation.theta ** (-np.arange(count) / count)
            turned = (patch[:, axis, :, 0] + 1j * patch[:, axis, :, 1]) * np.exp(1j * angles)
            patch[:, axis] = np.stack([turned.real, turned.imag], axis=-1)
    return rotated.reshape(rows.shape)


def _attend(queries: Values, keys: Values, values: Values, *, heads: int, scale: float, causal: bool = False) -> Values:
    """Attention in one sequence: queries, keys and values ``[rows, width]`` each to the means of every query."""
    length, width = queries.shape
    query, key, value = (part.reshape(len(part), heads, -1).transpose(1, 0, 2) for part in (queries, keys, values))
    scores = query @ key.transpose(0, 2, 1) * scale
    if causal:
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    means: Values = (shares @ value).transpose(1, 0, 2).reshape(length, width)
    return means


def _activate(values: Values, activation: str | None) -> Values:
    if activation == "quick_gelu":
        activated: Values = values / (1 + np.exp(-1.702 * values))
    elif activation == "gelu_tanh":
        activated = values * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))
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
    normal: Values = centred / np.sqrt(variance + epsilon) * norm.weight
    return normal if norm.bias is None else normal + norm.bias


def _apply(linear: Linear, values: Values) -> Values:
    mapped: Values = values @ linear.dequantize().astype(np.float64)
    return mapped if linear.bias is None else mapped + linear.bias
