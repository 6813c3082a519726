"""Recipes: what vectors may have been made by, tried one change after another until they come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from clipworks.doctor.joint import Rows, unit_rows

R = TypeVar("R")

_ROUNDS = 3  # changes that are tried together at most
_GAIN = 0.9  # of the distance: what a change must bring it under, to be built on


class Change(NamedTuple, Generic[R]):
    """One thing done otherwise."""

    axis: str  # what it changes, of which a recipe has one thing
    said: str
    recipe: R


@dataclass(frozen=True, kw_only=True)
class Recipes(Generic[R]):
    """A model's way to its vectors, and what others do otherwise.

    Attributes:
        start: as the model's card says.
        list_changes: a recipe with one more thing changed each.
        make: the vectors ``[n, dim]`` of image files, or of texts; None where they cannot be computed here.
    """

    start: R
    list_changes: Callable[[R], Iterable[Change[R]]]
    make: Callable[[R, Sequence[str]], Rows | None]


@dataclass(frozen=True, kw_only=True)
class Nearest(Generic[R]):
    """What came nearest to some vectors: the changes, in order, and how far each vector still is."""

    recipe: R
    said: tuple[str, ...]
    distances: tuple[float, ...]


def search(
    recipes: Recipes[R], files: Sequence[str], stored: Rows, tolerance: float, *, tell: Callable[[str], None]
) -> Nearest[R]:
    """Change a recipe, the most helpful change first, until all vectors come out.

    Args:
        recipes: the changes, each tried alone, then beside those that helped.
        files: image files, or texts.
        stored: unit rows ``[n, dim]`` that are looked for, of these.
        tolerance: distance of unit rows that counts as none.
        tell: takes a line of progress.
    """
    best = Nearest(recipe=recipes.start, said=(), distances=_measure(recipes.make(recipes.start, files), stored))
    axes: set[str] = set()
    for _ in range(_ROUNDS):
        following, used = best, ""
        for change in recipes.list_changes(best.recipe):
            if change.axis in axes:
                continue
            tell(f"trying: {' and '.join([*best.said, change.said])}")
            found = Nearest(
                recipe=change.recipe,
                said=(*best.said, change.said),
                distances=_measure(recipes.make(change.recipe, files), stored),
            )
            # The first of equals: some changes give the same.
            if np.median(found.distances) < np.median(following.distances):
                following, used = found, change.axis
            if max(following.distances) <= tolerance:
                return following
        if np.median(following.distances) > _GAIN * np.median(best.distances):
            break
        best = following
        axes.add(used)
    return best


def measure_distances(made: Rows, stored: Rows) -> Rows:
    """The length of the difference of each two unit rows: ``[n]``."""
    return np.asarray(np.linalg.norm(unit_rows(made) - stored, axis=-1))


def _measure(made: Rows | None, stored: Rows) -> tuple[float, ...]:
    if made is None or made.shape != stored.shape:
        return (float("inf"),) * len(stored)
    return tuple(np.nan_to_num(measure_distances(made, stored), nan=np.inf).tolist())
