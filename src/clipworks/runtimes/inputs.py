"""What a tower's graph takes, made of the batch that an encoder is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.runtimes import Batch

Part = npt.NDArray[Any]
SHARED = "prefix"
"""The input of a text tower of ours that takes what all texts of a batch begin with."""


def name_inputs(batch: Batch, names: Sequence[str]) -> dict[str, Part]:
    """Give each input of a graph its part of a batch.

    Args:
        batch: uint8 ``[n, size, size, 3]`` or int32 ``[n, length]``.
        names: the graph's inputs: one, or `SHARED` and one more.

    Returns:
        The batch under its name; where the graph takes the common beginning apart, that as ``[1, shared]`` and the
        rest as ``[n, length - shared]``, both contiguous.
    """
    if SHARED not in names:
        return {names[0]: batch}
    shared = count_shared(batch)  # type: ignore[arg-type]  # a graph with this input takes ids
    (other,) = (name for name in names if name != SHARED)
    return {SHARED: np.ascontiguousarray(batch[:1, :shared]), other: np.ascontiguousarray(batch[:, shared:])}


def count_shared(ids: npt.NDArray[np.int32]) -> int:
    """How many of the first columns of ``[n, length]`` are alike in all rows, the last one never counted.

    Of a single row one: to take more would save nothing and give engines more shapes to get ready for.
    """
    alike = (ids == ids[:1]).all(axis=0)
    alike[-1:] = False
    return min(int(np.argmin(alike)), 1) if len(ids) == 1 else int(np.argmin(alike))


def count_rows(ids: npt.NDArray[np.int32]) -> int:
    """How many rows a tower that shares the common beginning has for ``[n, length]``; more than these are filling."""
    shared, length = count_shared(ids), len(ids[0])
    return shared + len(ids) * (length - shared)
