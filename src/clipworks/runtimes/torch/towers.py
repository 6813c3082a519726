"""The two towers as functions of tensors.

Layer normalisation and softmax are computed in f32 inside the kernels, whatever type goes in and out. The last layer
is computed for the pooled row alone, as in `clipworks.convert.graph`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clipworks.runtimes.inputs import count_shared
from clipworks.runtimes.probes import FIRST, POOLED

Note = Callable[[str, Tensor], None]
"""Takes a value inside a tower, by the name that `clipworks.runtimes.probes` gives it; it is changed afterwards."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Map:
    """A linear map as PyTorch has it: matrix ``[out, in]``, bias ``[out]``."""

    matrix: Tensor
    bias: Tensor

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
class Layers:
    """The layers of a tower.

    Attributes:
        inner: queries, keys and values in one map, ``[3 width, width]``, and the block; of every layer but the last.
        query: of the last layer.
        keys: of the last layer, ``[heads, side, width]``.
        values: of the last layer, ``[heads, width, side]``.
        last: the block of the last layer.
        norm: gain and shift of the last normalisation.
        projection: ``[dim, width]``.
    """

    inner: tuple[tuple[Map, Block], ...]
    query: Map
    keys: Tensor
    values: Tensor
    last: Block
    norm: tuple[Tensor, Tensor]
    projection: Tensor
    heads: int
    quick: bool
    epsilon: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTower:
    """The image tower: uint8 ``[n, size, size, 3]`` to float32 ``[n, dim]``, both on the device."""

    size: int
    centre: float
    patches: Tensor
    positions: Tensor
    class_row: Tensor
    norm: tuple[Tensor, Tensor]
    layers: Layers

    @property
    def context(self) -> None:
        """Pictures have no length."""

    def __call__(self, pixels: Tensor, note: Note | None = None) -> Tensor:
        """Embed pictures."""
        count, width = len(pixels), self.class_row.shape[-1]
        grid, side = round(len(self.positions) ** 0.5), round((self.patches.shape[1] / 3) ** 0.5)
        pixels = pixels[:, : grid * side, : grid * side]
        patches = pixels.reshape(count, grid, side, grid, side * 3).transpose(2, 3).reshape(count, grid * grid, -1)
        rows = self.patches.new_empty(count, 1 + grid * grid, width)
        rows[:, 0] = self.class_row
        centred = patches.to(rows.dtype).sub_(self.centre)
        torch.add(functional.linear(centred, self.patches), self.positions, out=rows[:, 1:])
        rows = functional.layer_norm(rows, (width,), *self.norm, self.layers.epsilon)
        rows = _run_layers(rows, self.layers, causal=False, note=note)
        normal = _normalise(rows, self.layers)
        return _finish(rows[:, 0], normal[:, 0], normal, None, self.layers, note)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTower:
    """The text tower: int32 ``[n, length]`` to float32 ``[n, dim]``, both on the device.

    Attributes:
        shares: whether what all texts begin with is computed once; only where ids can be looked at for nothing, and
            shapes need not be fixed.
    """

    tokens: Tensor
    positions: Tensor
    end_id: int | None
    shares: bool
    layers: Layers

    @property
    def context(self) -> int:
        """The longest text in tokens."""
        return len(self.positions)

    def __call__(self, ids: Tensor, note: Note | None = None) -> Tensor:
        """Embed token rows."""
        count, length = ids.shape
        shared = count_shared(ids.numpy()) if self.shares else 0
        spread = _share_rows(count, length, shared) if shared and count > 1 else None
        if spread is None:
            rows = functional.embedding(ids, self.tokens).add_(self.positions[:length])
        else:
            rows = functional.embedding(ids.reshape(-1)[spread.own], self.tokens)
            rows = rows.add_(self.positions[spread.own % length])
        rows = _run_layers(rows, self.layers, causal=True, spread=spread, note=note)
        if spread is not None:
            rows = rows[spread.places]
        # Of equal values argmax gives the first; without an end token all are equal, and that is the first row.
        pooled_at = (ids if self.end_id is None else (ids == self.end_id).int()).argmax(dim=1)
        normal = _normalise(rows, self.layers)
        each = torch.arange(count, device=ids.device)
        hidden = torch.arange(length, device=ids.device) > pooled_at[:, None]
        return _finish(rows[each, pooled_at], normal[each, pooled_at], normal, hidden, self.layers, note)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Spread:
    """Rows that all texts share computed once.

    Attributes:
        own: of the flat rows, their places among all rows, int64 ``[shared + n * (length - shared)]``.
        places: of every row of every text, its flat row, int64 ``[n, length]``.
    """

    own: Tensor
    places: Tensor


def _share_rows(count: int, length: int, shared: int) -> _Spread:
    every = torch.arange(count * length, device="cpu").view(count, length)
    rest = torch.arange(count * (length - shared), device="cpu").view(count, -1) + shared
    return _Spread(
        own=torch.cat([every[0, :shared], every[:, shared:].reshape(-1)]),
        places=torch.cat([every[:1, :shared].expand(count, -1), rest], dim=1),
    )


def _run_layers(
    rows: Tensor, layers: Layers, *, causal: bool, spread: _Spread | None = None, note: Note | None
) -> Tensor:
    """Every layer but the last; see `_run_layer`."""
    if note is not None:
        note(FIRST, rows)
    for number, layer in enumerate(layers.inner):
        rows = _run_layer(rows, *layer, layers, causal=causal, spread=spread)
        if note is not None:
            note(str(number), rows)
    return rows


def _run_layer(
    rows: Tensor, attention: Map, block: Block, layers: Layers, *, causal: bool, spread: _Spread | None = None
) -> Tensor:
    """One layer: rows ``[n, length, width]``, or flat ones ``[rows, width]``, to the same, in place."""
    parts = attention(_normalise(rows, layers))
    if spread is not None:
        parts = parts[spread.places]
    count, length = parts.shape[:2]
    width = rows.shape[-1]
    query, key, value = parts.view(count, length, 3, layers.heads, width // layers.heads).permute(2, 0, 3, 1, 4)
    means = functional.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=1.0)
    joined = means.transpose(1, 2).reshape(count, length, width)
    rows = rows.add_(block.out(joined if spread is None else joined.view(-1, width)[spread.own]))
    return rows.add_(_expand(rows, block, layers))


def _finish(
    pooled: Tensor, query_row: Tensor, normal: Tensor, hidden: Tensor | None, layers: Layers, note: Note | None
) -> Tensor:
    """The last layer for one row of each sequence, and the projection.

    Args:
        pooled: ``[n, width]``.
        query_row: the same row, normalised.
        normal: every row, normalised, ``[n, length, width]``.
        hidden: bool ``[n, length]``, rows that the pooled one does not see.
        layers: the weights.
        note: takes the pooled rows behind the last layer.
    """
    count, width = pooled.shape
    queries = layers.query(query_row).view(count, layers.heads, -1).transpose(0, 1)
    scores = torch.matmul(queries, layers.keys).transpose(0, 1) @ normal.transpose(1, 2)  # [n, heads, length]
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None], float("-inf"))
    shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(normal.dtype)
    means = torch.matmul((shares @ normal).transpose(0, 1), layers.values)  # [heads, n, side]
    pooled = pooled + layers.last.out(means.transpose(0, 1).reshape(count, width))
    pooled = pooled + _expand(pooled, layers.last, layers)
    if note is not None:
        note(POOLED, pooled)
    pooled = functional.layer_norm(pooled, (width,), *layers.norm, layers.epsilon)
    return functional.linear(pooled, layers.projection).float()


def _normalise(rows: Tensor, layers: Layers) -> Tensor:
    return functional.layer_norm(rows, rows.shape[-1:], None, None, layers.epsilon)


def _expand(rows: Tensor, block: Block, layers: Layers) -> Tensor:
    inner = block.expand(_normalise(rows, layers))
    return block.contract(functional.silu(inner, inplace=True) if layers.quick else functional.gelu(inner))
