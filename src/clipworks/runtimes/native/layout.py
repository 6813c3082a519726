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


def pack_tower(weights: ImageWeights | TextWeights, *, bf16: bool) -> tuple[Facts, Bytes]:
    """Lay a tower out.

    Args:
        weights: of one tower.
        bf16: whether maps are rounded to bf16; what is added, and the last layer's attention, stays f32.

    Returns:
        The facts, and uint8 ``[bytes]``: the facts again, then the parts, each at a multiple of
        `ALIGNMENT`.
    """
    facts = _describe(weights, bf16=bf16)
    body = bytearray(write_facts(facts))
    for part in _list_parts(weights, bf16=bf16):
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


def pack_matrix(matrix: Array, *, bf16: bool = False) -> Bytes:
    """Lay a matrix out for the products' inner loop: in panels of columns, each ``[words, columns]``.

    Args:
        matrix: ``[in, out]``.
        bf16: whether a word of 32 bits is two values of a column below each other in bf16, not one in f32.

    Returns:
        uint8 ``[bytes]``; the last panel is filled up with zeros to whole vectors.
    """
    height, width = matrix.shape
    filled = np.zeros((height + height % 2 if bf16 else height, -(-width // _LANES) * _LANES), np.float32)
    filled[:height, :width] = matrix
    words = filled.view(np.uint32)
    if bf16:
        rounded = round_to_bf16(words)
        words = rounded[::2] | (rounded[1::2] << _HALF)
    panels = [words[:, start : start + _PANEL].reshape(-1) for start in range(0, words.shape[1], _PANEL)]
    return np.concatenate(panels).view(np.uint8)


def round_to_bf16(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The nearest bf16 of f32 values, both as bits; of two equally near ones the even one."""
    return (bits + np.uint32(0x7FFF) + ((bits >> _HALF) & np.uint32(1))) >> _HALF


def _describe(weights: ImageWeights | TextWeights, *, bf16: bool) -> Facts:
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
    )
    if isinstance(weights, TextWeights):
        return dataclasses.replace(
            facts, vocabulary=len(weights.tokens), context=len(weights.positions), end_id=weights.end_id
        )
    return dataclasses.replace(
        facts,
        size=weights.size,
        grid=round(len(weights.positions) ** 0.5),
        side=round((len(weights.patches) / 3) ** 0.5),
        centre=weights.centre,
    )


def _list_parts(weights: ImageWeights | TextWeights, *, bf16: bool) -> Iterator[Bytes]:
    if isinstance(weights, TextWeights):
        yield from map(_view, (weights.tokens, weights.positions))
    else:
        yield pack_matrix(weights.patches, bf16=bf16)
        yield from map(_view, (weights.positions, weights.class_row, weights.norm.gain, weights.norm.shift))
    *inner, last = weights.stack.layers
    for layer in inner:
        yield from _list_layer(layer, _join(layer), bf16=bf16)
    yield from _list_layer(last, last.query, bf16=bf16)
    yield from _list_last(weights.stack)


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
