"""What a tower's graph takes, made of the batch that an encoder is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.runtimes import Batch
from clipworks.runtimes.packing import GROUPS, count_packed, pack_texts

Part = npt.NDArray[Any]
_SHARED = "prefix"
"""The input of an older text tower of ours that takes what all texts of a batch begin with."""


def name_inputs(batch: Batch, names: Sequence[str]) -> dict[str, Part]:
    """Give each input of a graph its part of a batch.

    Args:
        batch: uint8 ``[n, size, size, 3]`` or int32 ``[n, length]``.
        names: the graph's inputs: one; or those of `pack_texts`; or, of an older tower, ``prefix`` and one more.

    Returns:
        The batch under its name, or packed; or what all texts begin with as ``[1, shared]`` and the rest as
        ``[n, length - shared]``, both contiguous.
    """
    ids: npt.NDArray[np.int32] = batch  # type: ignore[assignment]  # what is packed or shared are ids
    if GROUPS in names:
        return dict(pack_texts(ids)) if len(ids) else {}  # no runtime runs an empty batch
    if _SHARED not in names:
        return {names[0]: batch}
    shared = count_shared(ids)
    (other,) = (name for name in names if name != _SHARED)
    return {_SHARED: np.ascontiguousarray(ids[:1, :shared]), other: np.ascontiguousarray(ids[:, shared:])}


def drop_filling(value: Part, batch: Batch, names: Sequence[str]) -> Part:
    """Of a value inside a graph, the rows that do more than fill up, where a text tower has all rows in one list."""
    ids: npt.NDArray[np.int32] = batch  # type: ignore[assignment]  # as above
    if value.ndim != 3:
        return value
    if GROUPS in names:
        return value[:, : count_packed(ids)]
    if _SHARED in names:
        shared = count_shared(ids)
        return value[:, : shared + len(ids) * (ids.shape[1] - shared)]
    return value


def count_shared(ids: npt.NDArray[np.int32]) -> int:
    """How many of the first columns of ``[n, length]`` are alike in all rows, the last one never counted.

    Of a single row one: to take more would save nothing and give runtimes more shapes to get ready for.
    """
    alike = (ids == ids[:1]).all(axis=0)
    alike[-1:] = False
    return min(int(np.argmin(alike)), 1) if len(ids) == 1 else int(np.argmin(alike))
