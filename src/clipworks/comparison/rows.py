"""The rows of a comparison, made of what was embedded and measured; the Pareto front of them, and gates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from clipworks.bundle.files import card_hash
from clipworks.comparison.accuracy import compare_accuracy, find_correct, measure_accuracy, measure_agreement
from clipworks.comparison.candidates import Candidate
from clipworks.comparison.comparison import AccuracyAxis, GateResult, Row
from clipworks.comparison.embedding import ComparedImages
from clipworks.comparison.speeds import summarise_speeds
from clipworks.errors import UsageError, unknown_name
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


def _difference(k: int) -> Callable[[Row], float | None]:
    def find(row: Row) -> float | None:
        found = next((item for item in row.differences if item.k == k), None)
        # From the counts: the difference of two shares is not quite -0.5 points where 5 of 1,000 were lost.
        return None if found is None else 100 * (found.only_row - found.only_reference) / found.count

    return find


def _throughput(row: Row) -> float | None:
    speeds = [speed for speed in row.speeds if speed.tower == "image"]
    ratios = [speed.ratio.median for speed in speeds if speed.ratio is not None]
    return min(ratios) if ratios and len(ratios) == len(speeds) else None


# Name, and what it looks at: points of accuracy, shares, cosines, times the reference's rate under the load where that
# is least; more is better in all.
GATES: dict[str, Callable[[Row], float | None]] = {
    "top1": _difference(1),
    "top5": _difference(5),
    "agreement": lambda row: None if row.agreement is None else row.agreement.top1.share,
    "cosine": lambda row: None if row.agreement is None else row.agreement.cosine_min,
    "throughput": _throughput,
}


def parse_gates(text: str) -> dict[str, float]:
    """Read ``top1=-0.5,agreement=0.99``; raises UnknownNameError, and UsageError for another form or a name twice."""
    bounds: dict[str, float] = {}
    for part in text.split(","):
        name, sign, value = (item.strip() for item in part.partition("="))
        try:
            bound = float(value)
        except ValueError:
            bound = float("nan")
        if not sign or bound != bound or name in bounds:
            raise UsageError(f"--gate is {text!r}; allowed: names and numbers, as in top1=-0.5,agreement=0.99")
        if name not in GATES:
            raise unknown_name("gate", name, list(GATES))
        bounds[name] = bound
    return bounds


def check_gates(rows: tuple[Row, ...], bounds: dict[str, float]) -> tuple[GateResult, ...]:
    """Check every row that is available by every bound; references are what the others are compared with."""
    return tuple(
        GateResult(row=row.name, gate=name, bound=bound, value=value, kept=value is not None and value >= bound)
        for row in rows
        if row.actual is not None and not row.is_reference
        for name, bound in bounds.items()
        for value in (GATES[name](row),)
    )
