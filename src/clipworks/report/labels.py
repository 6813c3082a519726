"""Labels of points in a plot: each is put where it hides neither a point nor another label, near its own point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# From here on a line leads from the label to its point.
LED = 16.0
# Directions from the point, the ones that read best first: right, left, above, below, then the corners.
_DIRECTIONS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)])
_DISTANCES = np.repeat([6.0, LED, 28.0, 42.0, 58.0, 76.0], len(_DIRECTIONS))[:, None]
_WAYS = np.tile(_DIRECTIONS, (6, 1))


def place_labels(points: Floats, sizes: Floats, frame: Floats, taken: Floats) -> list[tuple[Floats, float]]:
    """Find a place for the label of every point.

    Args:
        points: ``[n, 2]``.
        sizes: ``[n, 2]``, width and height of each label.
        frame: ``[4]``, where labels may stand: left, bottom, right, top, as of every box.
        taken: ``[m, 4]``, what they must not hide beside the points, as lines and markers.

    Returns:
        For each its box and how far it is from its point; where all places are taken, the one that hides least.
    """
    hidden = np.concatenate([np.hstack([points - 4, points + 4]), taken])
    found: dict[int, tuple[Floats, float]] = {}
    gaps = np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)
    # The crowded ones first: they have the fewest places.
    for one in np.argsort(gaps[:, :2][:, -1], kind="stable").tolist():
        corners = points[one] + _WAYS * _DISTANCES - sizes[one] * (1 - _WAYS) / 2
        boxes = np.hstack([corners, corners + sizes[one]])
        spilled = sizes[one].prod() - _overlap(boxes, frame[None])[:, 0]
        best = int(np.argmin((_overlap(boxes, hidden).sum(axis=1) + 4 * spilled).round(3)))
        found[one] = (boxes[best], float(_DISTANCES[best, 0]))
        hidden = np.concatenate([hidden, boxes[best : best + 1]])
    return [found[one] for one in range(len(points))]


def _overlap(boxes: Floats, others: Floats) -> Floats:
    """The area that each box shares with each other one."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared: Floats = np.maximum(high - low, 0.0).prod(axis=2)
    return shared
