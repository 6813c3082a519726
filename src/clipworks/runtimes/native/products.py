"""A tower of random weights, for `clipworks.runtimes.rates`: what the compiled code runs is towers, not products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipworks.bundle.card import TowerSpec
from clipworks.processor import count_physical_cores
from clipworks.runtimes.availability import unavailable
from clipworks.runtimes.native.encoder import NativeEncoder
from clipworks.runtimes.native.facts import HEAD
from clipworks.runtimes.native.layout import pack_tower
from clipworks.runtimes.native.opening import list_precisions
from clipworks.runtimes.protocol import Opening
from clipworks.towers.folding import FOLDED_MEAN, FOLDED_STD
from clipworks.towers.weights import Array, ImageWeights, Layer, Linear, Norm

_WIDTH, _HEADS, _MLP_DIM, _LAYERS = 768, 12, 3072, 2
_SIDE, _GRID, _IMAGES, _DIM = 8, 7, 8, 16
_ROWS = _GRID**2 + 1


def open_products(precision: str) -> tuple[int, Callable[[], object]]:
    """Open a tower of ViT-B's width and two layers.

    Returns:
        The operations of a call, and the call.
    """
    if precision not in list_precisions():
        raise unavailable("precision", precision, "native", list_precisions())
    facts, body = pack_tower(
        _draw_weights(int8=precision == "int8"), bf16=precision == "bf16", int8=precision == "int8"
    )
    opening = Opening(read_ms=None, compile_ms=0.0)
    encoder = NativeEncoder(facts, body[HEAD:], threads=count_physical_cores(), opening=opening)
    shape = (_IMAGES, facts.size, facts.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    layer = 24 * _WIDTH**2 * _ROWS + 4 * _ROWS**2 * _WIDTH
    patches = 2 * _GRID**2 * 3 * _SIDE**2 * _WIDTH
    return _IMAGES * (patches + layer * (_LAYERS - 1)), lambda: encoder(images)  # of the last layer hardly anything


def _draw_weights(*, int8: bool) -> ImageWeights:
    random = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape, dtype=np.float32) / 32

    def draw_map(height: int, width: int) -> Linear:
        if not int8:
            return Linear(weight=draw(height, width), bias=draw(width))
        return Linear(
            weight=random.integers(-127, 128, (height, width), dtype=np.int8),
            bias=draw(width),
            weight_scale=np.full(width, 0.01, np.float32),
            input_scale=np.array(0.05, np.float32),
            input_zero_point=np.array(128, np.uint8),
        )

    def draw_layer() -> Layer:
        q, k, v, proj = (draw_map(_WIDTH, _WIDTH) for _ in range(4))
        fc1, fc2 = draw_map(_WIDTH, _MLP_DIM), draw_map(_MLP_DIM, _WIDTH)
        return Layer(norm1=norm, q=q, k=k, v=v, proj=proj, norm2=norm, fc1=fc1, fc2=fc2)

    norm = Norm(weight=np.ones(_WIDTH, np.float32), bias=draw(_WIDTH))
    spec = TowerSpec(
        kind="vit",
        layers=_LAYERS,
        width=_WIDTH,
        heads=_HEADS,
        mlp_dim=_MLP_DIM,
        patch_size=_SIDE,
        activation="quick_gelu",
        input_norm=True,
        cls_token=True,
        pooling="cls",
    )
    return ImageWeights(
        spec=spec,
        size=_SIDE * _GRID,
        mean=FOLDED_MEAN,
        std=FOLDED_STD,
        scale=1.0,
        patch_embed=draw_map(3 * _SIDE**2, _WIDTH),
        cls_token=draw(_WIDTH),
        pos_embed=draw(1 + _GRID**2, _WIDTH),
        norm_pre=norm,
        layers=tuple(draw_layer() for _ in range(_LAYERS)),
        norm=norm,
        attn_pool=None,
        head=Linear(weight=draw(_WIDTH, _DIM)),
    )
