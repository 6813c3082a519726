"""Labels of points in a plot: each is put where it hides neither a point nor another label, near its own point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Directions from the point, the ones that read best first: right, left, above, below, then the corners.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_DISTANCES = (6.0, 16.0, 28.0, 42.0, 58.0, 76.0)
# From here on a line leads from the label to its point.
LED = 16.0


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in a plot's own units, from its lower left corner."""

    left: float
    bottom: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        upwards = min(self.bottom + self.height, other.bottom + other.height) - max(self.bottom, other.bottom)
        return max(across, 0.0) * max(upwards, 0.0)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    taken: Sequence[Box],
) -> list[tuple[Box, float]]:
    """Find a place for the label of every point.

    Args:
        points: where the points are.
        sizes: width and height of each label.
        frame: where labels may stand.
        taken: what they must not hide beside the points, as lines and markers.

    Returns:
        For each its box and how far it is from its point; where all places are taken, the one that hides least.
    """
    marks = [Box(left=x - 4, bottom=y - 4, width=8, height=8) for x, y in points]
    found: dict[int, tuple[Box, float]] = {}
    # The crowded ones first: they have the fewest places.
    crowded = sorted(range(len(points)), key=lambda one: sorted(math.dist(points[one], other) for other in points)[1:2])
    for one in crowded:
        hidden = [*marks, *taken, *(box for box, _ in found.values())]
        tried = [
            (sum(box.overlap(other) for other in hidden) + 4 * _spill(box, frame), distance, box)
            for distance in _DISTANCES
            for direction in _DIRECTIONS
            for box in (_beside(points[one], sizes[one], direction, distance),)
        ]
        _, distance, box = min(tried, key=lambda choice: (round(choice[0], 3), choice[1]))
        found[one] = (box, distance)
    return [found[one] for one in range(len(points))]


def _beside(point: tuple[float, float], size: tuple[float, float], direction: tuple[int, int], distance: float) -> Box:
    """A label's box so far from its point in a direction."""
    return Box(
        left=point[0] + direction[0] * distance - (size[0] * (1 - direction[0]) / 2),
        bottom=point[1] + direction[1] * distance - (size[1] * (1 - direction[1]) / 2),
        width=size[0],
        height=size[1],
    )


def _spill(box: Box, frame: Box) -> float:
    """The area of a box outside of the frame."""
    return box.width * box.height - box.overlap(frame)
