"""One set of records for a tower's weights, in a checkpoint's own form and in the folded one that bundles store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import TowerSpec

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """A layer normalisation: weight ``[width]``, and bias ``[width]`` or None."""

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """A linear map.

    Attributes:
        weight: float32 ``[in, out]``, or int8 where the map is quantized.
        bias: ``[out]``, or None.
        weight_scale: of quantized weights, float32 ``[out]``.
        input_scale: of what comes in, float32 ``[]``.
        input_zero_point: likewise, uint8 or int8 ``[]``.
    """

    weight: Array
    bias: Array | None = None
    weight_scale: Array | None = None
    input_scale: Array | None = None
    input_zero_point: Array | None = None

    def dequantize(self) -> Array:
        """The weight as float32, of quantized weights what they stand for."""
        if self.weight_scale is None:
            return self.weight
        floats: Array = self.weight * self.weight_scale.astype(np.float32)
        return floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One transformer layer; a post-norm one normalises behind its attention and its MLP."""

    norm1: Norm
    q: Linear
    k: Linear
    v: Linear
    proj: Linear
    norm2: Norm
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionPool:
    """One learned query that looks at all rows, and an MLP behind it: SigLIP's pooling.

    Attributes:
        heads: of the attention.
        scale: factor of its scores.
        latent: what becomes the query, ``[width]``.
        norm: before the MLP.
    """

    heads: int
    scale: float
    latent: Array
    q: Linear
    k: Linear
    v: Linear
    proj: Linear
    norm: Norm
    fc1: Linear
    fc2: Linear

    def take_query_through_keys(self) -> Array:
        """The query, taken through the weights of the keys: ``[heads, width]``; times a row, it is a head's score."""
        query = self.latent.astype(np.float64) @ self.q.dequantize()
        query = query if self.q.bias is None else query + self.q.bias
        width = len(query)
        keys = self.k.dequantize().astype(np.float64).reshape(width, self.heads, width // self.heads).transpose(1, 0, 2)
        through: Array = (keys @ query.reshape(self.heads, -1, 1))[..., 0].astype(np.float32)
        return through


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageWeights:
    """The image tower.

    Attributes:
        spec: its architecture.
        size: side in pixels of the image that it takes.
        mean: taken from each channel of pixels in 0..1.
        std: by which each channel is divided then.
        scale: factor of the scores of a layer's attention.
        patch_embed: from a patch, ``[row, column, channel]`` flat, to ``[width]``.
        cls_token: ``[width]``; None where no token stands before the patches.
        pos_embed: ``[rows, width]``, the CLS token's first.
        norm_pre: of the rows before the first layer, or None.
        norm: behind the last one.
        attn_pool: what makes one row of all behind that norm; None where a row is taken.
        head: the projection, ``[width, dim]``, or None.
    """

    spec: TowerSpec
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    patch_embed: Linear
    cls_token: Array | None
    pos_embed: Array
    norm_pre: Norm | None
    layers: tuple[Layer, ...]
    norm: Norm
    attn_pool: AttentionPool | None
    head: Linear | None

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.spec.width if self.head is None else self.head.weight.shape[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextWeights:
    """The text tower.

    Attributes:
        spec: its architecture.
        end_id: the token whose first place is pooled where the pooling is ``eos``; else None.
        pad_id: the token that no attention sees where the mask is ``padding``; else None.
        scale: factor of an attention's scores.
        token_embed: ``[vocabulary, width]``.
        pos_embed: ``[context, width]``.
        type_embed: BERT's row of the first token type, added to every token's, ``[width]``; or None.
        norm_pre: of the rows before the first layer, or None.
        norm: behind the last layer; None where layers end with one.
        head: the projection, ``[width, dim]``, or None.
    """

    spec: TowerSpec
    end_id: int | None
    pad_id: int | None
    scale: float
    token_embed: Array
    pos_embed: Array
    type_embed: Array | None
    norm_pre: Norm | None
    layers: tuple[Layer, ...]
    norm: Norm | None
    head: Linear | None

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.spec.width if self.head is None else self.head.weight.shape[1]


TowerWeights = ImageWeights | TextWeights


def list_tensors(
    weights: TowerWeights | Layer | AttentionPool | Linear | Norm, before: str = ""
) -> Iterator[tuple[str, Array]]:
    """Every array of a record under the name that its fields spell, in their order."""
    for field in dataclasses.fields(weights):
        value, name = getattr(weights, field.name), before + field.name
        if isinstance(value, np.ndarray):
            yield name, value
        elif isinstance(value, Norm | Linear | AttentionPool):
            yield from list_tensors(value, f"{name}.")
        elif field.name == "layers":
            for index, layer in enumerate(value):
                yield from list_tensors(layer, f"{name}.{index}.")
