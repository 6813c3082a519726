"""The two towers as functions of tensors.

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
from clipworks.text import packing

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": partial(functional.silu, inplace=True),  # its factor is in the maps around it
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}

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
    norm: tuple[Tensor, Tensor] | None  # weight and bias of the normalisation of pooled rows
    projection: Map | None
    heads: int
    activation: str
    epsilon: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTower:
    """The image tower: uint8 ``[n, size, size, 3]`` to float32 ``[n, dim]``, both on the device."""

    size: int
    centre: float
    patches: Tensor
    positions: Tensor
    cls_row: Tensor | None
    norm: tuple[Tensor, Tensor] | None
    layers: Layers

    @property
    def context(self) -> None:
        """Images have no length."""

    def __call__(self, pixels: Tensor, note: Note | None = None) -> Tensor:
        """Embed images."""
        count, width = len(pixels), self.positions.shape[-1]
        grid, side = round(len(self.positions) ** 0.5), round((self.patches.shape[1] / 3) ** 0.5)
        pixels = pixels[:, : grid * side, : grid * side]
        patches = pixels.reshape(count, grid, side, grid, side * 3).transpose(2, 3).reshape(count, grid * grid, -1)
        before = 0 if self.cls_row is None else 1
        rows = self.patches.new_empty(count, before + grid * grid, width)
        if self.cls_row is not None:
            rows[:, 0] = self.cls_row
        centred = patches.to(rows.dtype).sub_(self.centre)
        torch.add(functional.linear(centred, self.patches), self.positions, out=rows[:, before:])
        if self.norm is not None:
            rows = functional.layer_norm(rows, (width,), *self.norm, self.layers.epsilon)
        rows = _run_layers(rows, self.layers, causal=False, note=note)
        normal = _normalise(rows, self.layers)
        return _finish(rows[:, 0], normal[:, 0], normal, None, self.layers, note)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTower:
    """The text tower: int32 ``[n, length]`` to float32 ``[n, dim]``, both on the device."""

    tokens: Tensor
    positions: Tensor
    end_id: int | None
    packs: bool  # whether texts are packed; only where ids can be looked at for nothing, and shapes need not be fixed
    whole: bool  # whether every row sees all others, padding too, and the last is pooled
    layers: Layers

    @property
    def context(self) -> int:
        """The longest text in tokens."""
        return len(self.positions)

    def __call__(self, ids: Tensor, note: Note | None = None) -> Tensor:
        """Embed token rows."""
        count, length = ids.shape
        if self.whole and length != self.context:
            raise RuntimeError(f"texts have {length} ids each; allowed: {self.context}, padding counted")
        packed = _pack(ids) if self.packs and count > 1 else None
        if packed is None:
            rows = functional.embedding(ids, self.tokens).add_(self.positions[:length])
        else:
            rows = functional.embedding(packed.ids, self.tokens).add_(self.positions[packed.places])
        rows = _run_layers(rows, self.layers, causal=not self.whole, packed=packed, note=note)
        if packed is not None:
            rows = rows[packed.texts]
        normal = _normalise(rows, self.layers)
        if self.whole:
            return _finish(rows[:, -1], normal[:, -1], normal, None, self.layers, note)
        # Of equal values argmax gives the first; without an end token all are equal, and that is the first row.
        pooled_at = (ids if self.end_id is None else (ids == self.end_id).int()).argmax(dim=1)
        each = torch.arange(count, device=ids.device)
        hidden = torch.arange(length, device=ids.device) > pooled_at[:, None]
        return _finish(rows[each, pooled_at], normal[each, pooled_at], normal, hidden, self.layers, note)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Packed:
    """A packed batch; `clipworks.text.packing` tells what it is."""

    ids: Tensor  # int64 ``[rows]``
    places: Tensor  # int64 ``[rows]``
    groups: Tensor  # int64 ``[groups, length]``
    seen: Tensor  # which rows of its group a row sees, bool ``[groups, 1, length, length]``
    back: Tensor  # int64 ``[rows]``
    texts: Tensor  # int64 ``[n, length]``


def _pack(ids: Tensor) -> _Packed:
    packed = {name: torch.from_numpy(part).long() for name, part in packing.pack_texts(ids.numpy()).items()}
    column = torch.arange(packed[packing.GROUPS].shape[1], device="cpu")  # wherever the caller's default may be
    seen = (column <= column[:, None]) & (column[:, None] < packed[packing.ENDS][:, None, None])
    return _Packed(
        ids=packed[packing.IDS][0],
        places=packed[packing.PLACES][0],
        groups=packed[packing.GROUPS],
        seen=seen,
        back=packed[packing.BACK][0],
        texts=packed[packing.TEXTS],
    )


def _run_layers(
    rows: Tensor, layers: Layers, *, causal: bool, packed: _Packed | None = None, note: Note | None
) -> Tensor:
    """Every layer of all rows; see `_run_layer`."""
    if note is not None:
        note(FIRST, rows)
    for number, layer in enumerate(layers.inner):
        rows = _run_layer(rows, *layer, layers, causal=causal, packed=packed)
        if note is not None:
            note(str(number), rows)
    return rows


def _run_layer(
    rows: Tensor, attention: Map, block: Block, layers: Layers, *, causal: bool, packed: _Packed | None = None
) -> Tensor:
    """One layer: rows ``[n, length, width]``, or flat ones ``[rows, width]``, to the same, in place."""
    parts = attention(_normalise(rows, layers))
    if layers.rotation is not None:
        _rotate(parts, *layers.rotation, layers.heads)
    if packed is not None:
        parts = parts[packed.groups]
    count, length = parts.shape[:2]
    width = rows.shape[-1]
    query, key, value = parts.view(count, length, 3, layers.heads, width // layers.heads).permute(2, 0, 3, 1, 4)
    seen = None if packed is None else packed.seen
    means = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, is_causal=causal and seen is None, scale=1.0
    )
    joined = means.transpose(1, 2).reshape(count, length, width)
    rows = rows.add_(block.out(joined if packed is None else joined.view(-1, width)[packed.back]))
    return rows.add_(_expand(rows, block, layers))


def _rotate(parts: Tensor, cosines: Tensor, sines: Tensor, heads: int) -> None:
    """Turn queries and keys by where their patches are, in place; ``parts`` has the values too, which are left."""
    count, length = parts.shape[:2]
    turned = parts.view(count, length, 3 * heads, -1)[:, :, : 2 * heads]
    swapped = turned.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    turned.mul_(cosines[:, None]).addcmul_(swapped, sines[:, None])


def _finish(
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
    pooled = attended if pool.keys is None else pooled + attended
    pooled = pooled + _expand(pooled, pool.block, layers)
    if note is not None:
        note(POOLED, pooled)
    if layers.norm is not None:
        pooled = functional.layer_norm(pooled, (width,), *layers.norm, layers.epsilon)
    return (pooled if layers.projection is None else layers.projection(pooled)).float()


def _normalise(rows: Tensor, layers: Layers) -> Tensor:
    return functional.layer_norm(rows, rows.shape[-1:], None, None, layers.epsilon)


def _expand(rows: Tensor, block: Block, layers: Layers) -> Tensor:
    return block.contract(_ACTIVATIONS[layers.activation](block.expand(_normalise(rows, layers))))
