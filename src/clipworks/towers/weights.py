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
    """One pre-norm transformer layer."""

    norm1: Norm
    q: Linear
    k: Linear
    v: Linear
    proj: Linear
    norm2: Norm
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageWeights:
    """The image tower.

    Attributes:
        spec: its architecture.
        size: side in pixels of the image that it takes.
        mean: taken from each channel of pixels in 0..1.
        std: by which each channel is divided then.
        scale: factor of an attention's scores.
        patch_embed: from a patch, ``[row, column, channel]`` flat, to ``[width]``.
        cls_token: ``[width]``.
        pos_embed: ``[1 + grid * grid, width]``, the CLS token's first.
        norm_pre: of the rows before the first layer.
        norm: behind the last one.
        head: the projection, ``[width, dim]``.
    """

    spec: TowerSpec
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    patch_embed: Linear
    cls_token: Array
    pos_embed: Array
    norm_pre: Norm
    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class TextWeights:
    """The text tower.

    Attributes:
        spec: its architecture.
        end_id: the token whose first place is pooled; None for the first place of the largest id.
        scale: factor of an attention's scores.
        token_embed: ``[vocabulary, width]``.
        pos_embed: ``[context, width]``.
        norm: behind the last layer.
        head: the projection, ``[width, dim]``.
    """

    spec: TowerSpec
    end_id: int | None
    scale: float
    token_embed: Array
    pos_embed: Array
    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear


TowerWeights = ImageWeights | TextWeights


def list_tensors(weights: TowerWeights | Layer | Linear | Norm, before: str = "") -> Iterator[tuple[str, Array]]:
    """Every array of a record under the name that its fields spell, in their order."""
    for field in dataclasses.fields(weights):
        value, name = getattr(weights, field.name), before + field.name
        if isinstance(value, np.ndarray):
            yield name, value
        elif isinstance(value, Norm | Linear):
            yield from list_tensors(value, f"{name}.")
        elif field.name == "layers":
            for index, layer in enumerate(value):
                yield from list_tensors(layer, f"{name}.{index}.")
