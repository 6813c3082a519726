"""The two towers as functions of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clipworks.runtimes.torch.layers import Layers, Norm, Note, Packed, normalise, pool_rows, run_layers
from clipworks.text import packing


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTower:
    """The image tower: uint8 ``[n, size, size, 3]`` to float32 ``[n, dim]``, both on the device."""

    size: int
    centre: float
    patches: Tensor
    positions: Tensor
    cls_row: Tensor | None
    norm: Norm | None
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
        rows = run_layers(rows, self.layers, causal=False, note=note)
        normal = normalise(rows, self.layers)
        return pool_rows(rows[:, 0], normal[:, 0], normal, None, self.layers, note)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTower:
    """The text tower: int32 ``[n, length]`` to float32 ``[n, dim]``, both on the device."""

    tokens: Tensor
    positions: Tensor
    norm: Norm | None
    end_id: int | None
    pad_id: int | None  # what no row sees; the first row is pooled then
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
        if self.pad_id is not None:
            return self._embed_masked(ids, self.pad_id, note)
        if packed is None:
            rows = functional.embedding(ids, self.tokens).add_(self.positions[:length])
        else:
            rows = functional.embedding(packed.ids, self.tokens).add_(self.positions[packed.places])
        rows = run_layers(rows, self.layers, causal=not self.whole, packed=packed, note=note)
        if packed is not None:
            rows = rows[packed.texts]
        normal = normalise(rows, self.layers)
        if self.whole:
            return pool_rows(rows[:, -1], normal[:, -1], normal, None, self.layers, note)
        # Of equal values argmax gives the first; without an end token all are equal, and that is the first row.
        pooled_at = (ids if self.end_id is None else (ids == self.end_id).int()).argmax(dim=1)
        each = torch.arange(count, device=ids.device)
        hidden = torch.arange(length, device=ids.device) > pooled_at[:, None]
        return pool_rows(rows[each, pooled_at], normal[each, pooled_at], normal, hidden, self.layers, note)

    def _embed_masked(self, ids: Tensor, pad_id: int, note: Note | None) -> Tensor:
        """Embed token rows of a tower that masks padding."""
        rows = functional.embedding(ids, self.tokens).add_(self.positions[: ids.shape[1]])
        if self.norm is not None:
            rows = functional.layer_norm(rows, rows.shape[-1:], *self.norm, self.layers.epsilon)
        hidden = ids == pad_id
        hidden[:, 0] = False  # a row of a captured graph that holds no text would see nothing, and give NaN
        rows = run_layers(rows, self.layers, causal=False, seen=~hidden[:, None, None], note=note)
        return pool_rows(rows[:, 0], rows[:, 0], rows, hidden, self.layers, note)


def _pack(ids: Tensor) -> Packed:
    packed = {name: torch.from_numpy(part).long() for name, part in packing.pack_texts(ids.numpy()).items()}
    column = torch.arange(packed[packing.GROUPS].shape[1], device="cpu")  # wherever the caller's default may be
    seen = (column <= column[:, None]) & (column[:, None] < packed[packing.ENDS][:, None, None])
    return Packed(
        ids=packed[packing.IDS][0],
        places=packed[packing.PLACES][0],
        groups=packed[packing.GROUPS],
        seen=seen,
        back=packed[packing.BACK][0],
        texts=packed[packing.TEXTS],
    )
