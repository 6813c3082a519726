"""One naming for every CLIP checkpoint: plain records of weights that the graph builder and the reference consume.

Weights keep PyTorch's orientation, ``[out, in]``, and are always float32: float16 and bfloat16 convert exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import ImageInput

Array = npt.NDArray[np.float32]
Activation = Literal["quick_gelu", "gelu"]
Pooling = Literal["argmax", "end"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """A layer normalisation: gain ``[width]`` and shift ``[width]``."""

    gain: Array
    shift: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """A linear map: weight ``[out, in]`` and bias ``[out]``."""

    weight: Array
    bias: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One pre-norm transformer layer; ``qkv`` stacks queries, keys and values: weight ``[3 width, width]``."""

    attention_norm: Norm
    qkv: Linear
    out: Linear
    mlp_norm: Norm
    expand: Linear
    contract: Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """A transformer: its layers and what they share."""

    layers: tuple[Layer, ...]
    width: int
    heads: int
    activation: Activation
    epsilon: float

    @property
    def mlp(self) -> int:
        """Width between the two maps of the MLP."""
        return int(self.layers[0].expand.weight.shape[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageWeights:
    """The image tower.

    Attributes:
        size: side in pixels of the picture that it takes.
        patch: ``[width, 3, side, side]``, the kernel of the patch embedding.
        class_token: ``[width]``.
        positions: ``[1 + grid * grid, width]``, the class token's first.
        projection: ``[dim, width]``.
    """

    size: int
    patch: Array
    class_token: Array
    positions: Array
    pre_norm: Norm
    stack: Stack
    post_norm: Norm
    projection: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class TextWeights:
    """The text tower.

    Attributes:
        tokens: ``[vocabulary, width]``.
        positions: ``[context, width]``.
        pooling: the row that becomes the embedding: that of the largest id, or of the first ``end_id``.
        end_id: the end token, where pooling is ``end``.
        projection: ``[dim, width]``.
    """

    tokens: Array
    positions: Array
    stack: Stack
    final_norm: Norm
    projection: Array
    pooling: Pooling
    end_id: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything that a CLIP checkpoint says, in one naming.

    Attributes:
        layout: ``huggingface``, ``open_clip`` or ``openai``.
        files: the files that it was read from.
        logit_scale: the factor of the cosine; the exponential is already taken.
    """

    layout: str
    files: tuple[Path, ...]
    image: ImageWeights
    text: TextWeights
    preprocessing: ImageInput
    logit_scale: float

    @property
    def dim(self) -> int:
        """Width of the shared embedding."""
        return int(self.image.projection.shape[0])
