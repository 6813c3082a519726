"""Rotary positions as the graphs and the runtimes take them: tables of each row's cosines and sines."""

from __future__ import annotations

import numpy as np

from clipworks.bundle.card import TowerSpec
from clipworks.towers.weights import Array


def tabulate_rotation(spec: TowerSpec, grid: int) -> tuple[Array, Array]:
    """What turns queries and keys: ``values * cosines + swapped * sines``, the values of each pair being swapped.

    Args:
        spec: of an image tower that rotates.
        grid: patches along a side.

    Returns:
        Cosines and sines, these with their signs, float32 ``[rows, head width]``; of a CLS token 1 and 0.
    """
    rotation, width = spec.rotation, spec.width // (spec.heads or 1)
    assert rotation is not None  # who asks has looked
    frequencies = rotation.theta ** (-np.arange(width // 4) / (width // 4))
    places = np.arange(grid)[:, None] + rotation.offset
    column, row = np.tile(places, (grid, 1)), np.repeat(places, grid, axis=0)
    angles = np.repeat(np.concatenate([column * frequencies, row * frequencies], axis=1), 2, axis=1)
    cosines, sines = np.cos(angles), np.sin(angles) * np.tile([-1, 1], width // 2)
    if spec.cls_token:
        cosines, sines = (np.insert(table, 0, value, axis=0) for table, value in ((cosines, 1), (sines, 0)))
    return cosines.astype(np.float32), sines.astype(np.float32)
