"""Causes of vectors that are not a model's: another order, or another recipe that makes them to rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from clipworks.doctor.causes.recipes import Nearest, R, Recipes, measure_distances, search
from clipworks.doctor.joint import Rows, unit_rows
from clipworks.doctor.vector_check import VectorCauses

_TRIED, _CONFIRMED = 4, 16  # vectors that a cause is searched with, and that it is then confirmed with
_ALIKE = 3.0  # times: what two implementations of one precision may differ by in what they lose


def explain_vectors(
    recipes: Recipes[R], files: Sequence[str], stored: Rows, tolerance: float, tell: Callable[[str], None]
) -> VectorCauses:
    """Search what makes some vectors that differ, the furthest first, and confirm it with more of them."""
    some = spread(len(files), _TRIED)
    found = _search_all(recipes, [files[place] for place in some], stored[some], tolerance, tell)
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
        likely=_find_rounding(recipes, found, [files[place] for place in some], stored[some]),
    )


def _search_all(
    recipes: Recipes[R], files: Sequence[str], stored: Rows, tolerance: float, tell: Callable[[str], None]
) -> Nearest[R]:
    """Search in the precision of the start, then, where nothing explains it, in others: rounding hides changes."""
    found = search(recipes, files, stored, tolerance, tell=tell)
    for change in recipes.list_changes(recipes.start):
        if max(found.distances) <= tolerance:
            break
        if change.axis == "precision" and recipes.make(change.recipe, files[:1]) is not None:
            other = search(replace(recipes, start=change.recipe), files, stored, tolerance, tell=tell)
            if max(other.distances) <= tolerance:
                return replace(other, said=(*other.said, change.said))
    return found


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


def _find_rounding(recipes: Recipes[R], found: Nearest[R], files: Sequence[str], stored: Rows) -> str | None:
    """Whether what is left of the difference is as large as what a precision loses here."""
    exact = recipes.make(found.recipe, files)
    assert exact is not None  # it was made before
    right = unit_rows(exact)
    apart = float(np.median(measure_distances(right, stored)))
    for change in recipes.list_changes(found.recipe):
        rough = recipes.make(change.recipe, files) if change.axis == "precision" else None
        lost = 0.0 if rough is None else float(np.median(measure_distances(rough, right)))
        if lost and lost / _ALIKE <= apart <= lost * _ALIKE:
            return (
                f"{'what is left of the difference' if found.said else 'the difference'}, {apart:.2g} of a vector's "
                f"length, is as large as what is lost here when {change.said}, {lost:.2g}: perhaps another program's"
            )
    return None
