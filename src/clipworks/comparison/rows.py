"""The rows of a comparison, made of what was embedded and measured; those on the Pareto front are marked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from clipworks.bundle.files import card_hash
from clipworks.comparison.accuracy import compare_accuracy, find_correct, measure_accuracy, measure_agreement
from clipworks.comparison.candidates import Candidate
from clipworks.comparison.comparison import AccuracyAxis, Row
from clipworks.comparison.embedding import ComparedImages
from clipworks.comparison.speeds import summarise_speeds
from clipworks.profiling.profile import Load
from clipworks.profiling.search import find_pareto


def build_rows(
    rows: Sequence[Candidate],
    references: dict[str, Candidate],
    images: ComparedImages,
    loads: Sequence[tuple[int, Load]],
) -> tuple[Row, ...]:
    """Compare every row with its model's reference and, for another model, with the first one's."""
    pool, first = images.pool, next(iter(references.values()), None)
    correct = {row.name: find_correct(row.embedded, pool) for row in rows if row.embedded is not None}
    found = []
    for row in rows:
        reference = references.get(row.asked.model)
        base = None if reference is row else reference
        others = dict.fromkeys(item.name for item in (base, first) if item is not None and item is not row)
        own = correct.get(row.name, {})
        actual = row.actual
        threads = next((profile.threads for runs in row.runs.values() for _, profile in runs), None)
        if actual is not None and threads is not None:  # the runtime tells them, where it does
            actual = dataclasses.replace(actual, threads=threads)
        agreement = None
        if row.embedded and base and base.embedded:
            agreement = measure_agreement(row.embedded, base.embedded, pool, base.name)
        found.append(
            Row(
                name=row.name,
                model=row.bundle.card.name,
                card_sha256=card_hash(row.bundle.card),
                asked=row.asked,
                actual=actual,
                is_reference=row is reference,
                problems=tuple(row.problems),
                accuracy=measure_accuracy(own),
                differences=tuple(item for name in others for item in compare_accuracy(own, correct[name], name)),
                agreement=agreement,
                footprint=row.footprint,
                speeds=summarise_speeds(row.runs, base.runs if base else {}, loads),
                pareto=None,
            )
        )
    return tuple(found)


def mark_front(rows: tuple[Row, ...]) -> tuple[tuple[Row, ...], AccuracyAxis | None]:
    """Mark the rows that no other beats in accuracy, or without truth in agreement, and speed.

    Returns:
        The rows, and the axis beside the speed; None where no row has figures for both.
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
    return marked, axis if known else None
