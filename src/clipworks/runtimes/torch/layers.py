"""Layers of both towers as functions of tensors.

Layer normalisation and softmax are computed in f32 inside the kernels, whatever type goes in and out. The last layer
is computed for the pooled row alone, as in `clipworks.export.graph`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from clipworks.runtimes import FIRST, POOLED

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": partial(functional.silu, inplace=True),  # its factor is in the maps around it
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}

Norm = tuple[Tensor, Tensor]
"""Weight and bias of a normalisation, ``[width]`` each."""

Note = Callable[[str, Tensor], None]
"""Takes a value inside a tower, by the name that `clipworks.runtimes.probes` gives it; it is changed afterwards."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Map:
    """A linear map as PyTorch has it: matrix ``[out, in]``, bias ``[out]``."""

    matrix: Tensor
    bias: Tensor | None

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows ``[..., in]`` to ``[..., out]``."""
        return functional.linear(rows, self.matrix, self.bias)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """A layer but for what goes into its attention."""

    out: Map
    expand: Map
    contract: Map
    norms: tuple[Norm, Norm] | None  # behind the attention and behind the MLP, of a post-norm layer


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledLayer:
    """What makes one row of all: the last layer, for the pooled row alone, or a pooling by attention behind it."""

    query: Map | Tensor  # of the pooled row; or the same for all images, ``[heads, width]``, through the keys already
    keys: Tensor | None  # ``[heads, side, width]``; None likewise
    values: Tensor  # ``[heads, width, side]``
    block: Block


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers:
    """The layers of a tower."""

    # queries, keys and values in one map, ``[3 width, width]``, and the block; of every layer of all rows
    inner: tuple[tuple[Map, Block], ...]
    rotation: tuple[Tensor, Tensor] | None  # cosines and sines, as `clipworks.towers.rotation` has them
    pool: PooledLayer
    norm: Norm | None  # of pooled rows
    projection: Map | None
    heads: int
    activation: str
    epsilon: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """A packed batch; `clipworks.text.packing` tells what it is."""

    ids: Tensor  # int64 ``[rows]``
    places: Tensor  # int64 ``[rows]``
    groups: Tensor  # int64 ``[groups, length]``
    seen: Tensor  # which rows of its group a row sees, bool ``[groups, 1, length, length]``
    back: Tensor  # int64 ``[rows]``
    texts: Tensor  # int64 ``[n, length]``


def run_layers(
    rows: Tensor,
    layers: Layers,
    *,
    causal: bool,
    packed: Packed | None = None,
    seen: Tensor | None = None,
    note: Note | None,
) -> Tensor:
    """Every layer of all rows; see `_run_layer`."""
    if note is not None:
        note(FIRST, rows)
    for number, layer in enumerate(layers.inner):
        rows = _run_layer(rows, *layer, layers, causal=causal, packed=packed, seen=seen)
        if note is not None:
            note(str(number), rows)
    return rows


def _run_layer(
    rows: Tensor,
    attention: Map,
    block: Block,
    layers: Layers,
    *,
    causal: bool,
    packed: Packed | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """One layer: rows ``[n, length, width]``, or flat ones ``[rows, width]``, to the same, in place."""
    parts = attention(rows if block.norms is not None else normalise(rows, layers))
    if layers.rotation is not None:
        _rotate(parts, *layers.rotation, layers.heads)
    if packed is not None:
        parts, seen = parts[packed.groups], packed.seen
    count, length = parts.shape[:2]
    width = rows.shape[-1]
    query, key, value = parts.view(count, length, 3, layers.heads, width // layers.heads).permute(2, 0, 3, 1, 4)
    means = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, is_causal=causal and seen is None, scale=1.0
    )
    joined = means.transpose(1, 2).reshape(count, length, width)
    rows = rows.add_(block.out(joined if packed is None else joined.view(-1, width)[packed.back]))
    return _expand(rows, block, layers)


def _rotate(parts: Tensor, cosines: Tensor, sines: Tensor, heads: int) -> None:
    """Turn queries and keys by where their patches are, in place; ``parts`` has the values too, which are left."""
    count, length = parts.shape[:2]
    turned = parts.view(count, length, 3 * heads, -1)[:, :, : 2 * heads]
    swapped = turned.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    turned.mul_(cosines[:, None]).addcmul_(swapped, sines[:, None])


def pool_rows(
    pooled: Tensor, query_row: Tensor, normal: Tensor, hidden: Tensor | None, layers: Layers, note: Note | None
) -> Tensor:
    """One row of each sequence, and its projection.

    Args:
        pooled: ``[n, width]``; a pooling by attention has no use for it.
        query_row: the same row, normalised.
        normal: every row, normalised, ``[n, length, width]``.
        hidden: bool ``[n, length]``, rows that the pooled one does not see.
        layers: the weights.
        note: takes the pooled rows behind the last layer.
    """
    (count, width), pool = pooled.shape, layers.pool
    if isinstance(pool.query, Tensor) or pool.keys is None:
        through_keys = pool.query
    else:
        queries = pool.query(query_row).view(count, len(pool.values), -1).transpose(0, 1)
        through_keys = torch.matmul(queries, pool.keys).transpose(0, 1)
    scores = through_keys @ normal.transpose(1, 2)  # [n, heads, length]
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None], float("-inf"))
    shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(normal.dtype)
    means = torch.matmul((shares @ normal).transpose(0, 1), pool.values)  # [heads, n, side]
    attended = pool.block.out(means.transpose(0, 1).reshape(count, width))
    pooled = _expand(attended if pool.keys is None else pooled + attended, pool.block, layers)
    if note is not None:
        note(POOLED, pooled)
    if layers.norm is not None:
        pooled = functional.layer_norm(pooled, (width,), *layers.norm, layers.epsilon)
    return (pooled if layers.projection is None else layers.projection(pooled)).float()


def normalise(rows: Tensor, layers: Layers) -> Tensor:
    """Rows normalised; weight and bias of a layer's normalisation are folded into the maps behind it."""
    return functional.layer_norm(rows, rows.shape[-1:], None, None, layers.epsilon)


def _expand(rows: Tensor, block: Block, layers: Layers) -> Tensor:
    """Rows behind an attention to those behind the MLP, in place."""
    width, epsilon = rows.shape[-1:], layers.epsilon
    if block.norms is not None:
        rows = entry = functional.layer_norm(rows, width, *block.norms[0], epsilon)
    else:
        entry = normalise(rows, layers)
    rows = rows.add_(block.contract(_ACTIVATIONS[layers.activation](block.expand(entry))))
    return rows if block.norms is None else functional.layer_norm(rows, width, *block.norms[1], epsilon)
