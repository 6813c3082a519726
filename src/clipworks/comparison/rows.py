"""The rows of a comparison, made of what was embedded and measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from clipworks.bundle.files import card_hash
from clipworks.comparison.accuracy import compare_accuracy, find_correct, measure_accuracy, measure_agreement
from clipworks.comparison.candidates import Candidate
from clipworks.comparison.comparison import Row
from clipworks.comparison.embedding import ComparedImages
from clipworks.comparison.figures import Footprint, Problem
from clipworks.comparison.speeds import Runs, summarise_speeds
from clipworks.profiling.profile import Load


def build_rows(
    rows: Sequence[Candidate],
    references: dict[str, Candidate],
    images: ComparedImages,
    runs: dict[str, Runs],
    footprints: dict[str, Footprint],
    problems: dict[str, list[Problem]],
    loads: Sequence[tuple[int, Load]],
) -> tuple[Row, ...]:
    """Compare every row with its model's reference and, for another model, with the first one's.

    Args:
        rows: those that go into the table, in order.
        references: by the model's name as it was asked for.
        images: that were embedded.
        runs: measurements of speed, by the row's name.
        footprints: start and memory, by the row's name.
        problems: of measuring, by the row's name.
        loads: batch size and load, as measured.
    """
    pool, first = images.pool, next(iter(references.values()), None)
    correct = {row.name: find_correct(row.embedded, pool) for row in rows if row.embedded is not None}
    found = []
    for row in rows:
        reference = references.get(row.asked.model)
        others = {item.name: item for item in (reference, first) if item is not None and item is not row}
        own = correct.get(row.name)
        kept = [problem for problem in (row.problem, *problems.get(row.name, ())) if problem is not None]
        compared = row.embedded is not None and reference is not None and reference is not row
        actual, measured = row.actual, runs.get(row.name, Runs())
        if actual is not None and measured.threads is not None:  # the runtime tells them, where it does
            actual = dataclasses.replace(actual, threads=measured.threads)
        found.append(
            Row(
                name=row.name,
                model=row.bundle.card.name,
                card_sha256=card_hash(row.bundle.card),
                asked=row.asked,
                actual=actual,
                is_reference=row is reference,
                problems=tuple(kept),
                accuracy=() if own is None else measure_accuracy(own),
                differences=tuple(
                    item for name in others if own for item in compare_accuracy(own, correct[name], name)
                ),
                agreement=measure_agreement(row.embedded, reference.embedded, pool, reference.name)
                if compared and row.embedded and reference and reference.embedded
                else None,
                footprint=footprints.get(row.name),
                speeds=summarise_speeds(
                    measured,
                    runs.get(reference.name) if reference is not None and reference is not row else None,
                    loads,
                ),
                pareto=None,
            )
        )
    return tuple(found)
