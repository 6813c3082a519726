"""What a tower's graph takes, made of the batch that an encoder is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.runtimes import Batch
from clipworks.text.packing import count_packed, pack_texts

Part = npt.NDArray[Any]


def name_inputs(batch: Batch, names: Sequence[str], *, packs: bool) -> dict[str, Part]:
    """Give each input of a graph its part of a batch.

    Args:
        batch: uint8 ``[n, size, size, 3]`` or int32 ``[n, length]``.
        names: the graph's inputs: one, or those of `pack_texts`.
        packs: whether they are the latter.
    """
    if not packs:
        return {names[0]: batch}
    ids: npt.NDArray[np.int32] = batch  # type: ignore[assignment]  # what is packed are ids
    return dict(pack_texts(ids)) if len(ids) else {}  # no runtime runs an empty batch


def drop_filling(value: Part, batch: Batch, *, packs: bool) -> Part:
    """Of a value inside a graph, the rows that do more than fill up, where a text tower has all rows in one list."""
    ids: npt.NDArray[np.int32] = batch  # type: ignore[assignment]  # as above
    return value[:, : count_packed(ids)] if packs and value.ndim == 3 else value
