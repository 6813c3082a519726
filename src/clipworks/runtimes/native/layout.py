"""How a tower's weights lie in the one buffer that the compiled code takes, in the order in which it takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from clipworks.runtimes.graph_file import Array
from clipworks.runtimes.native.facts import Bytes, Facts, write_facts
from clipworks.runtimes.weights import ImageWeights, Layer, Linear, Stack, TextWeights

# As in _towers.c: columns of a packed matrix that lie together, f32 values of a vector, bytes that each part begins at.
_PANEL, _LANES, ALIGNMENT = 48, 16, 64
_HALF = np.uint32(16)  # bits of a bf16


def pack_tower(weights: ImageWeights | TextWeights, *, bf16: bool, int8: bool = False) -> tuple[Facts, Bytes]:
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


def is_rounded(weights: ImageWeights | TextWeights) -> bool:
    """Whether all maps that `pack_tower` keeps in int8 are in int8."""
    maps = [] if isinstance(weights, TextWeights) else [weights.patches]
    for layer in weights.stack.layers[:-1]:
        maps += [layer.query, layer.key, layer.value, layer.out, layer.expand, layer.contract]
    return all(linear.rounding is not None for linear in maps)


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
    return -(-width // _LANES) * _LANES


def _cut(words: npt.NDArray[np.uint32]) -> Bytes:
    """Words ``[words, columns]`` in panels."""
    panels = [words[:, start : start + _PANEL].reshape(-1) for start in range(0, words.shape[1], _PANEL)]
    return np.concatenate(panels).view(np.uint8)


def round_to_bf16(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The nearest bf16 of f32 values, both as bits; of two equally near ones the even one, and NaN for NaN."""
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> _HALF) & np.uint32(1))) >> _HALF
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)  # what is added can make a number of it
    return np.where(nan, np.uint32(0x7FC0), rounded)


def _describe(weights: ImageWeights | TextWeights, *, bf16: bool, int8: bool) -> Facts:
    stack = weights.stack
    facts = Facts(
        width=len(stack.norm.gain),
        heads=stack.heads,
        dim=stack.projection.shape[1],
        layers=len(stack.layers),
        expanded=stack.layers[0].expand.matrix.shape[1],
        epsilon=stack.epsilon,
        quick=stack.activation == "quick_gelu",
        bf16=bf16,
        int8=int8,
    )
    if isinstance(weights, TextWeights):
        return dataclasses.replace(
            facts, vocabulary=len(weights.tokens), context=len(weights.positions), end_id=weights.end_id
        )
    return dataclasses.replace(
        facts,
        size=weights.size,
        grid=round(len(weights.positions) ** 0.5),
        side=round((len(weights.patches.matrix) / 3) ** 0.5),
        centre=weights.centre,
    )


def _list_parts(weights: ImageWeights | TextWeights, facts: Facts) -> Iterator[Bytes]:
    if isinstance(weights, TextWeights):
        yield from map(_view, (weights.tokens, weights.positions))
    else:
        if facts.int8:
            yield from _list_rounded([_centre(weights)])
        else:
            yield pack_matrix(weights.patches.matrix, bf16=facts.bf16)
        yield from map(_view, (weights.positions, weights.class_row, weights.norm.gain, weights.norm.shift))
    *inner, last = weights.stack.layers
    for layer in inner:
        if facts.int8:
            yield from _list_rounded_layer(layer)
        else:
            yield from _list_layer(layer, _join(layer), bf16=facts.bf16)
    last = _fold_gains(last)
    yield from _list_layer(last, last.query, bf16=facts.bf16)
    yield from _list_last(dataclasses.replace(weights.stack, layers=(*inner, last)))


def _list_layer(layer: Layer, attention: Linear, *, bf16: bool) -> Iterator[Bytes]:
    for linear in (attention, layer.out, layer.expand, layer.contract):
        assert linear.bias is not None  # only keys and values have none
        yield pack_matrix(linear.matrix, bf16=bf16)
        yield _view(linear.bias)


def _join(layer: Layer) -> Linear:
    """Queries, keys and values in one product."""
    bias = layer.query.bias
    assert bias is not None
    parts = [layer.query.matrix, layer.key.matrix, layer.value.matrix]
    return Linear(matrix=np.concatenate(parts, axis=1), bias=np.concatenate([bias, 0 * bias, 0 * bias]))


def _fold_gains(layer: Layer) -> Layer:
    """The same layer with the gains of its normalisations in the maps behind them."""
    first, second = (gain[:, None] for gain in layer.gains)
    return dataclasses.replace(
        layer,
        query=dataclasses.replace(layer.query, matrix=first * layer.query.matrix),
        key=dataclasses.replace(layer.key, matrix=first * layer.key.matrix),
        value=dataclasses.replace(layer.value, matrix=first * layer.value.matrix),
        expand=dataclasses.replace(layer.expand, matrix=second * layer.expand.matrix),
    )


def _centre(weights: ImageWeights) -> Linear:
    """The patches' map for pixels as they are: what is taken from each is the zero of their grid."""
    rounding = weights.patches.rounding
    assert rounding is not None  # who packs int8 has looked
    return dataclasses.replace(
        weights.patches, rounding=dataclasses.replace(rounding, scale=1.0, zero=int(weights.centre))
    )


def _list_rounded_layer(layer: Layer) -> Iterator[Bytes]:
    groups = ([layer.query, layer.key, layer.value], [layer.out], [layer.expand], [layer.contract])
    for group in groups:
        yield from _list_rounded(group)
    yield from map(_view, layer.gains)
    roundings = [group[0].rounding for group in groups]
    yield _view(np.array([(np.divide(1, item.scale), item.zero) for item in roundings if item is not None]))


def _list_rounded(maps: list[Linear]) -> Iterator[Bytes]:
    """Maps of one value as one: steps, what a sum of each column is worth, and what is added."""
    roundings = [linear.rounding for linear in maps if linear.rounding is not None]
    steps = np.concatenate([rounding.steps for rounding in roundings], axis=1)
    scales = np.concatenate([rounding.scale * rounding.scales for rounding in roundings])
    bias = np.concatenate([np.zeros(linear.matrix.shape[1]) if linear.bias is None else linear.bias for linear in maps])
    yield pack_steps(steps)
    yield _view(scales)
    yield _view(bias - scales * roundings[0].zero * steps.sum(axis=0, dtype=np.int64))


def _list_last(stack: Stack) -> Iterator[Bytes]:
    """The last layer's keys and values, head by head, and what comes behind it."""
    last = stack.layers[-1]
    keys, values = (np.split(linear.matrix, stack.heads, axis=1) for linear in (last.key, last.value))
    yield np.concatenate([pack_matrix(key.T) for key in keys])
    yield np.concatenate([pack_matrix(value) for value in values])
    yield from map(_view, (stack.norm.gain, stack.norm.shift))
    yield pack_matrix(stack.projection)


def _view(values: Array) -> Bytes:
    return np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
