"""The Pareto front of a comparison: rows that no other is better than in accuracy without being worse in speed."""

from __future__ import annotations

import dataclasses
from typing import Literal

from clipworks.comparison.comparison import Pareto, Row

Axis = Literal["top1", "agreement"]


def mark_front(rows: tuple[Row, ...]) -> tuple[tuple[Row, ...], Pareto | None]:
    """Mark the rows of the front.

    Args:
        rows: all of them.

    Returns:
        The rows, each told whether it is on the front or has no figure for it; and the axes, None where no row has
        figures for them. Accuracy is top-1 where it is known, else the agreement with the reference.
    """
    axis: Axis = "top1" if any(row.accuracy for row in rows) else "agreement"
    points = {row.name: point for row in rows if (point := _locate(row, axis)) is not None}

    def stands(row: Row) -> bool | None:
        if row.name not in points:
            return None
        # Each model agrees with a reference of its own: shares of agreement compare within a model only.
        rivals = [other for other in rows if axis == "top1" or other.asked.model == row.asked.model]
        return not any(_beats(points[other.name], points[row.name]) for other in rivals if other.name in points)

    marked = tuple(dataclasses.replace(row, pareto=stands(row)) for row in rows)
    return marked, Pareto(accuracy=axis) if points else None


def _locate(row: Row, axis: Axis) -> tuple[float, float] | None:
    rates = [speed.samples_per_s.median for speed in row.speeds if speed.tower == "image"]
    if axis == "top1":
        accuracy = next((item.share for item in row.accuracy if item.k == 1), None)
    elif row.agreement is not None:
        accuracy = row.agreement.top1.share
    else:
        accuracy = 1.0 if row.is_reference else None
    return None if accuracy is None or not rates else (accuracy, max(rates))


def _beats(other: tuple[float, float], own: tuple[float, float]) -> bool:
    return other != own and all(theirs >= mine for theirs, mine in zip(other, own, strict=True))
