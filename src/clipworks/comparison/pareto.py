"""The Pareto front of a comparison: rows that no other is better than in accuracy without being worse in speed."""

from __future__ import annotations

import dataclasses

from clipworks.comparison.comparison import AccuracyAxis, Pareto, Row
from clipworks.profiling.search import find_pareto


def mark_front(rows: tuple[Row, ...]) -> tuple[tuple[Row, ...], Pareto | None]:
    """Mark the rows of the front, by top-1 accuracy where it is known, else by the agreement with the reference.

    Returns:
        The rows, each told whether it is on the front or has no figure for it; and the axes, None where no row has
        figures for them.
    """
    axis: AccuracyAxis = "top1" if any(row.accuracy for row in rows) else "agreement"
    known = [(row, speed, share) for row in rows if (speed := row.fastest) and (share := row.find_share(axis))]
    on_front: dict[str, bool] = {}
    # Each model agrees with a reference of its own: shares of agreement compare within a model only.
    for model in {"" if axis == "top1" else row.asked.model for row, _, _ in known}:
        rivals = [item for item in known if model in ("", item[0].asked.model)]
        front = find_pareto([(speed.samples_per_s.median, -share.share) for _, speed, share in rivals])
        on_front |= {row.name: kept for (row, _, _), kept in zip(rivals, front, strict=True)}
    marked = tuple(dataclasses.replace(row, pareto=on_front.get(row.name)) for row in rows)
    return marked, Pareto(accuracy=axis) if known else None
