"""How a tower's weights lie in the one buffer that the compiled code takes, in the order in which it takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from clipworks.runtimes.native.facts import ACTIVATIONS, Bytes, Facts, write_facts
from clipworks.towers.folding import CENTRE
from clipworks.towers.weights import Array, AttentionPool, ImageWeights, Layer, Linear, Norm, TextWeights, TowerWeights

# As in compiled/kernels.h: columns of a panel, to what multiple they are filled up, bytes that each part begins at.
_PANEL, _FILL, ALIGNMENT = 48, 16, 64
_HALF = np.uint32(16)  # bits of a bf16


def pack_tower(weights: TowerWeights, *, bf16: bool, int8: bool = False) -> tuple[Facts, Bytes]:
    """Lay a tower out.

    Args:
        weights: of one tower.
        bf16: whether maps are rounded to bf16; what is added, and the last layer's attention, stays f32.
        int8: whether the maps of all layers but the last stay in the int8 that they have.

    Returns:
        The facts, and uint8 ``[bytes]``: the facts again, then the parts, each at a multiple of
        `ALIGNMENT`.
    """
    facts = _describe(weights, bf16=bf16, int8=int8)
    body = bytearray(write_facts(facts))
    for part in _list_parts(weights, facts):
        body += part.data
        body += bytes(-len(body) % ALIGNMENT)
    return facts, align(np.frombuffer(body, np.uint8))


def align(body: Bytes) -> Bytes:
    """The same bytes at an address that is a multiple of `ALIGNMENT`, so that vectors do not cross a cache line."""
    if body.ctypes.data % ALIGNMENT == 0:
        return body
    room = np.empty(len(body) + ALIGNMENT, np.uint8)
    moved = room[-room.ctypes.data % ALIGNMENT :][: len(body)]
    moved[:] = body
    return moved


def is_quantized(weights: TowerWeights) -> bool:
    """Whether all maps that `pack_tower` keeps in int8 are in int8."""
    maps = [] if isinstance(weights, TextWeights) else [weights.patch_embed]
    for layer in _list_inner(weights):
        maps += [layer.q, layer.k, layer.v, layer.proj, layer.fc1, layer.fc2]
    return all(linear.weight_scale is not None for linear in maps)


def pack_matrix(matrix: Array, *, bf16: bool = False) -> Bytes:
    """Lay a matrix out for the products' inner loop: in panels of columns, each ``[words, columns]``.

    Args:
        matrix: ``[in, out]``.
        bf16: whether a word of 32 bits is two values of a column below each other in bf16, not one in f32.

    Returns:
        uint8 ``[bytes]``; the last panel is filled up with zeros to whole vectors.
    """
    height, width = matrix.shape
    filled = np.zeros((height + height % 2 if bf16 else height, _fill(width)), np.float32)
    filled[:height, :width] = matrix
    words = filled.view(np.uint32)
    if bf16:
        rounded = round_to_bf16(words)
        words = rounded[::2] | (rounded[1::2] << _HALF)
    return _cut(words)


def pack_steps(steps: npt.NDArray[np.int8]) -> Bytes:
    """As `pack_matrix`, for int8 ``[in, out]``: a word is four values of a column below each other."""
    height, width = steps.shape
    filled = np.zeros((-(-height // 4), 4, _fill(width)), np.int8)
    filled.reshape(-1, filled.shape[2])[:height, :width] = steps
    return _cut(np.ascontiguousarray(filled.transpose(0, 2, 1)).view(np.uint32)[..., 0])


def _fill(width: int) -> int:
    return -(-width // _FILL) * _FILL


def _cut(words: npt.NDArray[np.uint32]) -> Bytes:
    """Words ``[words, columns]`` in panels."""
    panels = [words[:, start : start + _PANEL].reshape(-1) for start in range(0, words.shape[1], _PANEL)]
    return np.concatenate(panels).view(np.uint8)


def round_to_bf16(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The nearest bf16 of f32 values, both as bits; of two equally near ones the even one, and NaN for NaN."""
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> _HALF) & np.uint32(1))) >> _HALF
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)  # what is added can make a number of it
    return np.where(nan, np.uint32(0x7FC0), rounded)


def _describe(weights: TowerWeights, *, bf16: bool, int8: bool) -> Facts:
    spec = weights.spec
    facts = Facts(
        **dict.fromkeys(("image_size", "grid", "patch_size", "vocabulary", "context", "center"), 0),
        width=spec.width,
        heads=spec.heads or 1,
        dim=weights.dim,
        layers=len(_list_inner(weights)) + 1,
        mlp_dim=weights.layers[0].fc1.weight.shape[1],
        activation=ACTIVATIONS.index(spec.activation),
        epsilon=spec.norm_eps,
        cls_token=spec.cls_token,
        input_norm=spec.input_norm,
        causal=spec.mask == "causal",
        attention_pool=spec.pooling == "attention",
        projected=weights.head is not None,
        bf16=bf16,
        int8=int8,
    )
    if isinstance(weights, TextWeights):
        vocabulary, context = len(weights.token_embed), len(weights.pos_embed)
        return facts._replace(vocabulary=vocabulary, context=context, end_id=weights.end_id)
    side = spec.patch_size or weights.size
    return facts._replace(image_size=weights.size, grid=weights.size // side, patch_size=side, center=float(CENTRE))


def _list_parts(weights: TowerWeights, facts: Facts) -> Iterator[Bytes]:
    if isinstance(weights, TextWeights):
        yield from map(_view, (weights.token_embed, weights.pos_embed))
    else:
        if facts.int8:  # of pixels as they are: what is taken from each is the zero point
            yield from _list_quantized([weights.patch_embed], scale=1.0, zero_point=CENTRE)
        else:
            yield pack_matrix(weights.patch_embed.dequantize(), bf16=facts.bf16)
        yield _view(weights.pos_embed[facts.cls_token :])
        if weights.cls_token is not None:
            yield _view(weights.pos_embed[0].astype(np.float64) + weights.cls_token)
        if weights.norm_pre is not None:
            yield from map(_view, (weights.norm_pre.weight, _bias(weights.norm_pre)))
    for layer in _list_inner(weights):
        if facts.int8:
            yield from _list_quantized_layer(layer)
        else:
            yield from _list_maps(_join(layer), layer.proj, layer.fc1, layer.fc2, bf16=facts.bf16)
    if isinstance(weights, ImageWeights) and weights.attn_pool is not None:
        yield from _list_pool(weights.attn_pool, weights, bf16=facts.bf16)
    else:
        yield from _list_last(_fold_norms(weights.layers[-1]), weights, bf16=facts.bf16)
    if weights.head is not None:
        yield from _list_maps(weights.head, bf16=False)


def _list_inner(weights: TowerWeights) -> tuple[Layer, ...]:
    """The layers that compute all rows: all where attention pools behind them, else all but the last."""
    return weights.layers if weights.spec.pooling == "attention" else weights.layers[:-1]


def _list_maps(*maps: Linear, bf16: bool) -> Iterator[Bytes]:
    for linear in maps:
        yield pack_matrix(linear.dequantize(), bf16=bf16)
        yield _view(_bias(linear))


def _join(layer: Layer) -> Linear:
    """Queries, keys and values in one product."""
    parts = (layer.q, layer.k, layer.v)
    return Linear(
        weight=np.concatenate([part.dequantize() for part in parts], axis=1),
        bias=np.concatenate([_bias(part) for part in parts]),
    )


def _fold_norms(layer: Layer) -> Layer:
    """The same layer in floats, with the weights of its normalisations in the maps behind them."""
    first, second = layer.norm1.weight[:, None], layer.norm2.weight[:, None]
    return dataclasses.replace(
        layer,
        q=Linear(weight=first * layer.q.dequantize(), bias=layer.q.bias),
        k=Linear(weight=first * layer.k.dequantize()),
        v=Linear(weight=first * layer.v.dequantize()),
        fc1=Linear(weight=second * layer.fc1.dequantize(), bias=layer.fc1.bias),
    )


def _list_quantized_layer(layer: Layer) -> Iterator[Bytes]:
    grids = []
    for group in ([layer.q, layer.k, layer.v], [layer.proj], [layer.fc1], [layer.fc2]):
        scale, zero_point = _read_input(group[0])
        yield from _list_quantized(group, scale=scale, zero_point=zero_point)
        grids.append((np.divide(1, scale), zero_point))
    yield from map(_view, (layer.norm1.weight, layer.norm2.weight))
    yield _view(np.array(grids))


def _read_input(linear: Linear) -> tuple[float, int]:
    """The scale of what comes into a quantized map, and its zero point as one of uint8."""
    assert linear.input_scale is not None  # who packs int8 has looked
    assert linear.input_zero_point is not None
    zero_point = linear.input_zero_point
    return float(linear.input_scale), int(zero_point) + (128 if zero_point.dtype == np.int8 else 0)


def _list_quantized(maps: list[Linear], *, scale: float, zero_point: int) -> Iterator[Bytes]:
    """Maps of one value as one: weights, what a sum of each column is worth, and what is added."""
    weight = np.concatenate([linear.weight for linear in maps], axis=1)
    scales = np.concatenate([scale * linear.weight_scale for linear in maps if linear.weight_scale is not None])
    bias = np.concatenate([_bias(linear) for linear in maps])
    yield pack_steps(weight)
    yield _view(scales)
    yield _view(bias - scales * zero_point * weight.sum(axis=0, dtype=np.int64))


def _list_last(last: Layer, weights: TowerWeights, *, bf16: bool) -> Iterator[Bytes]:
    """The last layer, its keys and values head by head, and the normalisation behind it."""
    yield from _list_maps(last.q, last.proj, last.fc1, last.fc2, bf16=bf16)
    keys = np.split(last.k.weight, weights.spec.heads or 1, axis=1)
    yield np.concatenate([pack_matrix(key.T) for key in keys])
    yield _pack_heads(last.v.weight, weights)
    assert weights.norm is not None  # post-norm towers are refused
    yield from map(_view, (weights.norm.weight, _bias(weights.norm)))


def _list_pool(pool: AttentionPool, weights: ImageWeights, *, bf16: bool) -> Iterator[Bytes]:
    """A pooling by attention, as a last layer whose query is known: what each head looks for is, too."""
    look = pool.take_query_through_keys()
    yield _view(np.pad(look, ((0, 0), (0, -weights.spec.width % _FILL))))
    yield from _list_maps(pool.proj, pool.fc1, pool.fc2, bf16=bf16)
    yield _pack_heads(pool.v.dequantize(), weights)


def _pack_heads(matrix: Array, weights: TowerWeights) -> Bytes:
    return np.concatenate([pack_matrix(part) for part in np.split(matrix, weights.spec.heads or 1, axis=1)])


def _bias(part: Linear | Norm) -> Array:
    """The bias of a map or a normalisation, zeros where it has none."""
    return np.zeros(part.weight.shape[-1]) if part.bias is None else part.bias


def _view(values: Array) -> Bytes:
    return np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
