"""Towers of SigLIP's architecture as records, with random weights in every tensor, and what they are compared in."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import Activation, TowerSpec
from clipworks.towers.weights import Array, AttentionPool, ImageWeights, Layer, Linear, Norm, TextWeights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a model; ``projection``: whether the text tower ends with one."""

    width: int = 144
    heads: int = 2
    mlp_dim: int = 268
    layers: int = 2
    size: int = 32
    patch_size: int = 8
    context: int = 16
    vocabulary: int = 300
    activation: Activation = "gelu_tanh"
    projection: bool = True

    def draw_images(self, count: int) -> npt.NDArray[np.uint8]:
        """Noise."""
        shape = (count, self.size, self.size, 3)
        return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)

    def draw_ids(self, count: int) -> npt.NDArray[np.int32]:
        """Texts of full length."""
        return np.random.default_rng(count).integers(0, self.vocabulary, (count, self.context), dtype=np.int32)


def draw_towers(shape: Shape, seed: int = 0) -> tuple[ImageWeights, TextWeights]:
    """An image tower that pools by attention and a text tower without a mask, in a checkpoint's own form."""
    random, width = np.random.default_rng(seed), shape.width

    def draw(*sides: int, scale: float = 1.0) -> Array:
        return (random.standard_normal(sides) * scale).astype(np.float32)

    def linear(into: int, out: int) -> Linear:
        return Linear(weight=draw(into, out, scale=into**-0.5), bias=draw(out, scale=0.3))

    def norm() -> Norm:
        return Norm(weight=1 + draw(width, scale=0.3), bias=draw(width, scale=0.3))

    def layer() -> Layer:
        q, k, v, proj = (linear(width, width) for _ in range(4))
        fc1, fc2 = linear(width, shape.mlp_dim), linear(shape.mlp_dim, width)
        return Layer(norm1=norm(), q=q, k=k, v=v, proj=proj, norm2=norm(), fc1=fc1, fc2=fc2)

    def pool() -> AttentionPool:
        one = layer()
        maps: dict[str, Any] = {name: getattr(one, name) for name in ("q", "k", "v", "proj", "fc1", "fc2")}
        return AttentionPool(
            heads=shape.heads, scale=(width // shape.heads) ** -0.5, latent=draw(width), norm=one.norm2, **maps
        )

    spec = TowerSpec(
        kind="vit",
        layers=shape.layers,
        width=width,
        heads=shape.heads,
        mlp_dim=shape.mlp_dim,
        patch_size=shape.patch_size,
        activation=shape.activation,
        norm_eps=1e-6,
        patch_bias=True,
        input_norm=False,
        cls_token=False,
        pooling="attention",
        projection=False,
    )
    grid, scale = shape.size // shape.patch_size, (width // shape.heads) ** -0.5
    image = ImageWeights(
        spec=spec,
        size=shape.size,
        mean=(0.5, 0.4, 0.3),
        std=(0.5, 0.6, 0.7),
        scale=scale,
        patch_embed=linear(3 * shape.patch_size**2, width),
        cls_token=None,
        pos_embed=draw(grid**2, width),
        norm_pre=None,
        layers=tuple(layer() for _ in range(shape.layers)),
        norm=norm(),
        attn_pool=pool(),
        head=None,
    )
    text = TextWeights(
        spec=dataclasses.replace(
            spec,
            kind="transformer",
            patch_size=None,
            patch_bias=False,
            pooling="last",
            projection=shape.projection,
            projection_bias=shape.projection,
        ),
        end_id=None,
        pad_id=None,
        scale=scale,
        token_embed=draw(shape.vocabulary, width),
        pos_embed=draw(shape.context, width),
        type_embed=None,
        norm_pre=None,
        layers=tuple(layer() for _ in range(shape.layers)),
        norm=norm(),
        head=linear(width, 40) if shape.projection else None,
    )
    return image, text
