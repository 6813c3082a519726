"""What the native runtime knows of a tower, and keeps in front of its packed weights.

Apart from `layout`, which imports onnx: a tower from the cache is opened without it.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

HEAD = 1024
"""Bytes of the facts in front of the weights."""
ACTIVATIONS = (None, "quick_gelu", "gelu", "gelu_tanh")
"""Activations by the numbers that the compiled code has for them."""


class Facts(NamedTuple):
    """What a tower is; all but the last are in the order in which the compiled code takes them."""

    image_size: int  # side of an image in pixels; 0 for texts, as are ``grid`` and ``patch_size``
    grid: int  # patches along a side
    patch_size: int  # side of a patch in pixels
    width: int  # of a row
    heads: int  # of an attention
    dim: int  # of an embedding
    layers: int  # how many
    mlp_dim: int  # width inside a layer's two last maps
    vocabulary: int  # token ids; 0 for images, as is ``context``
    context: int  # tokens of a text at most
    activation: int  # its place in `ACTIVATIONS`
    center: float  # taken from each pixel first
    epsilon: float  # of the normalizations
    cls_token: bool  # of images: whether the rows begin with the CLS token
    input_norm: bool  # of images: whether rows are normalized before the first layer
    causal: bool  # of texts: whether they come packed; if not, each has ``context`` tokens, padding and all
    attention_pool: bool  # whether the last of the layers is a pooling by attention
    projected: bool  # whether a projection follows; ``dim`` is ``width`` otherwise
    bf16: bool  # whether weights are bf16, not f32; of int8 those of the last layer, and what attentions take
    int8: bool  # whether the other layers' weights, and what goes into them, are int8
    end_id: int | None = None  # the token whose first place is pooled; None for the first place of the largest id


def write_facts(facts: Facts) -> bytes:
    """The facts in `HEAD` bytes."""
    head = json.dumps(facts._asdict()).encode().ljust(HEAD)
    assert len(head) == HEAD  # two dozen numbers
    return head


def read_facts(body: Bytes) -> Facts:
    """The facts of packed weights."""
    return Facts(**json.loads(body[:HEAD].tobytes()))
