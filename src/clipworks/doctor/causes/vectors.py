"""Causes of vectors that are not a model's: another order, or another recipe that makes them to rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clipworks.doctor.causes.recipes import R, Recipes, measure_distances, search
from clipworks.doctor.joint import Rows, unit_rows
from clipworks.doctor.vector_check import VectorCauses

_TRIED, _CONFIRMED = 4, 16  # vectors that a cause is searched with, and that it is then confirmed with
_ALIKE = 3.0  # times: what two implementations of one precision may differ by in what they lose


def explain_vectors(
    recipes: Recipes[R], files: Sequence[str], stored: Rows, tolerance: float, tell: Callable[[str], None]
) -> VectorCauses:
    """Search what makes some vectors that differ, the furthest first, and confirm it with more of them."""
    some = spread(len(files), _TRIED)
    found = search(recipes, [files[place] for place in some], stored[some], tolerance, tell=tell)
    if found.said and max(found.distances) <= tolerance:
        more = spread(len(files), _CONFIRMED)
        tell(f"confirming: {' and '.join(found.said)}")
        made = recipes.make(found.recipe, [files[place] for place in more])
        if made is not None and (measure_distances(made, stored[more]) <= tolerance).all():
            return VectorCauses(proven=found.said, confirmed=len(more))
    median = float(np.median(found.distances))
    return VectorCauses(
        nearest=found.said,
        nearest_cosine=1 - median**2 / 2 if found.said else None,
        likely=_find_rounding(recipes, [files[place] for place in some], stored[some]),
    )


def find_order(made: Rows, stored: Rows, tolerance: float) -> str | None:
    """Whether vectors are those of the same inputs in another order: unit rows ``[n, dim]`` both."""
    nearest = np.argmax(stored @ made.T, axis=1)
    moved = np.flatnonzero(nearest != np.arange(len(nearest)))
    if len(moved) < 2 or (measure_distances(made[nearest], stored) > tolerance).any():
        return None
    first = int(moved[0])
    return f"in another order: vector {first} is that of number {int(nearest[first])}"


def spread(count: int, most: int) -> list[int]:
    """At most so many places of ``count``, evenly from the first to the last."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / max(most - 1, 1)) for place in range(most)]


def _find_rounding(recipes: Recipes[R], files: Sequence[str], stored: Rows) -> str | None:
    """Whether the difference is as large as what a precision loses here; other code rounds otherwise."""
    exact = recipes.make(recipes.start, files)
    assert exact is not None  # it was made before
    right = unit_rows(exact)
    apart = float(np.median(measure_distances(right, stored)))
    for trial in recipes.list_trials(recipes.start):
        if trial.axis != "precision":
            continue
        rough = recipes.make(trial.recipe, files)
        lost = 0.0 if rough is None else float(np.median(measure_distances(rough, right)))
        if lost and lost / _ALIKE <= apart <= lost * _ALIKE:
            return (
                f"the difference, {apart:.2g} of a vector's length, is as large as what {trial.said} loses here, "
                f"{lost:.2g}: perhaps another program's"
            )
    return None
