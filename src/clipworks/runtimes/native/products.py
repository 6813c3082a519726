"""A tower of random weights, for `clipworks.runtimes.rates`: what the compiled code runs is towers, not products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipworks.processor import count_physical_cores
from clipworks.runtimes.availability import unavailable
from clipworks.runtimes.graph_file import Array
from clipworks.runtimes.native.encoder import NativeEncoder
from clipworks.runtimes.native.facts import HEAD
from clipworks.runtimes.native.layout import pack_tower
from clipworks.runtimes.native.opening import list_precisions
from clipworks.runtimes.protocol import Opening
from clipworks.runtimes.weights import ImageWeights, Layer, Linear, Norm, Rounding, Stack

_WIDTH, _HEADS, _EXPANDED, _LAYERS = 768, 12, 3072, 2
_SIDE, _GRID, _IMAGES, _DIM = 8, 7, 8, 16
_ROWS = _GRID**2 + 1


def open_products(precision: str) -> tuple[int, Callable[[], object]]:
    """Open a tower of ViT-B's width and two layers.

    Args:
        precision: ``f32``, ``bf16`` or ``int8``.

    Returns:
        The operations of a call, and the call.

    Raises:
        RuntimeUnavailableError: the precision is not available here.
    """
    if precision not in list_precisions():
        raise unavailable("precision", precision, "native", list_precisions())
    facts, body = pack_tower(_draw_weights(), bf16=precision == "bf16", int8=precision == "int8")
    opening = Opening(read_ms=None, compile_ms=0.0)
    encoder = NativeEncoder(facts, body[HEAD:], threads=count_physical_cores(), opening=opening)
    shape = (_IMAGES, facts.size, facts.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    layer = 24 * _WIDTH**2 * _ROWS + 4 * _ROWS**2 * _WIDTH
    patches = 2 * _GRID**2 * 3 * _SIDE**2 * _WIDTH
    return _IMAGES * (patches + layer * (_LAYERS - 1)), lambda: encoder(images)  # of the last layer hardly anything


def _draw_weights() -> ImageWeights:
    random = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape, dtype=np.float32) / 32

    def draw_map(height: int, width: int) -> Linear:
        steps = random.integers(-127, 128, (height, width), dtype=np.int8)
        rounding = Rounding(steps=steps, scales=np.full(width, 0.01, np.float32), scale=0.05, zero=128)
        return Linear(matrix=draw(height, width), bias=draw(width), rounding=rounding)

    def draw_layer() -> Layer:
        query, key, value, out = (draw_map(_WIDTH, _WIDTH) for _ in range(4))
        expand, contract = draw_map(_WIDTH, _EXPANDED), draw_map(_EXPANDED, _WIDTH)
        gains = np.ones(_WIDTH, np.float32), np.ones(_WIDTH, np.float32)
        return Layer(query=query, key=key, value=value, out=out, expand=expand, contract=contract, gains=gains)

    norm = Norm(gain=np.ones(_WIDTH, np.float32), shift=draw(_WIDTH))
    layers = tuple(draw_layer() for _ in range(_LAYERS))
    stack = Stack(
        layers=layers, heads=_HEADS, activation="quick_gelu", epsilon=1e-5, norm=norm, projection=draw(_WIDTH, _DIM)
    )
    return ImageWeights(
        size=_SIDE * _GRID,
        centre=128.0,
        patches=draw_map(3 * _SIDE**2, _WIDTH),
        positions=draw(_GRID**2, _WIDTH),
        class_row=draw(_WIDTH),
        norm=norm,
        stack=stack,
    )
