"""What the native runtime knows of a tower, and keeps in front of its packed weights.

Apart from `layout`, which imports onnx: a tower from the cache is opened without it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

HEAD = 1024
"""Bytes of the facts in front of the weights."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a tower is; all but the last are in the order in which the compiled code takes them.

    Attributes:
        size: side of an image in pixels; 0 for texts, as are ``grid`` and ``side``.
        grid: patches along a side.
        side: of a patch in pixels.
        width: of a row.
        heads: of an attention.
        dim: of an embedding.
        layers: how many.
        expanded: width inside a layer's two last maps.
        vocabulary: token ids; 0 for images, as is ``context``.
        context: tokens of a text at most.
        centre: taken from each pixel first.
        epsilon: of the normalisations.
        quick: whether the activation is QuickGELU, not GELU.
        bf16: whether weights are bf16, not f32; of int8 those of the last layer, and what attentions take.
        int8: whether the other layers' weights, and what goes into them, are int8.
        end_id: the token whose first place is pooled; None for the first place of the largest id.
    """

    size: int = 0
    grid: int = 0
    side: int = 0
    width: int
    heads: int
    dim: int
    layers: int
    expanded: int
    vocabulary: int = 0
    context: int = 0
    centre: float = 0.0
    epsilon: float
    quick: bool
    bf16: bool
    int8: bool
    end_id: int | None = None


def write_facts(facts: Facts) -> bytes:
    """The facts in `HEAD` bytes."""
    head = json.dumps(dataclasses.asdict(facts)).encode().ljust(HEAD)
    assert len(head) == HEAD  # sixteen numbers
    return head


def read_facts(body: Bytes) -> Facts:
    """The facts of packed weights."""
    return Facts(**json.loads(body[:HEAD].tobytes()))
