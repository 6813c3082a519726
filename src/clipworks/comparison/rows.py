"""The rows of a comparison, made of what was embedded and measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from clipworks.bundle.files import card_hash
from clipworks.comparison.accuracy import compare_accuracy, find_correct, measure_accuracy, measure_agreement
from clipworks.comparison.candidates import Candidate
from clipworks.comparison.comparison import Row
from clipworks.comparison.embedding import ComparedImages
from clipworks.comparison.speeds import summarise_speeds
from clipworks.profiling.profile import Load


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
        own = correct.get(row.name)
        actual = row.actual
        threads = next((profile.threads for runs in row.runs.values() for _, profile in runs), None)
        if actual is not None and threads is not None:  # the runtime tells them, where it does
            actual = dataclasses.replace(actual, threads=threads)
        found.append(
            Row(
                name=row.name,
                model=row.bundle.card.name,
                card_sha256=card_hash(row.bundle.card),
                asked=row.asked,
                actual=actual,
                is_reference=row is reference,
                problems=tuple(row.problems),
                accuracy=measure_accuracy(own or {}),
                differences=tuple(
                    item for name in others if own for item in compare_accuracy(own, correct[name], name)
                ),
                agreement=measure_agreement(row.embedded, base.embedded, pool, base.name)
                if row.embedded and base and base.embedded
                else None,
                footprint=row.footprint,
                speeds=summarise_speeds(row.runs, base.runs if base else {}, loads),
                pareto=None,
            )
        )
    return tuple(found)
