"""Stored vectors beside what a model gives for the same images or texts, and why they differ where a trial tells."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from clipworks.bundle.files import Bundle, card_hash
from clipworks.doctor.causes.image_recipes import open_image_recipes
from clipworks.doctor.causes.recipes import R, Recipes, measure_distances
from clipworks.doctor.causes.text_recipes import open_text_recipes
from clipworks.doctor.causes.tower_runs import TowerRuns
from clipworks.doctor.causes.vectors import explain_vectors, find_order, spread
from clipworks.doctor.joint import Rows, unit_rows
from clipworks.doctor.stages import TOLERANCES
from clipworks.doctor.vector_check import FarVector, VectorCauses, VectorCheck
from clipworks.doctor.vector_files import VectorFile
from clipworks.environment import describe_environment
from clipworks.errors import ImageError, RuntimeUnavailableError, UsageError
from clipworks.options import DEFAULT_IMAGE_OPTIONS, ImageOptions, RuntimeOptions
from clipworks.runtimes import Role

_BATCH = 16
_WORST = 5
_UNIT = 1e-3  # what a length may be off by
_WHOLE_NUMBERS = 2e-2  # what storing a vector as bytes may do to it, over its length


@dataclass(frozen=True, kw_only=True)
class VectorSource:
    """What vectors are of.

    Attributes:
        role: which tower makes them.
        names: what each image or text goes by.
        files: the image files, or the texts.
        options: how images are read.
    """

    role: Role
    names: tuple[str, ...]
    files: tuple[str, ...]
    options: ImageOptions = DEFAULT_IMAGE_OPTIONS


class _Pair(NamedTuple):
    """A vector's place in its file, and that of what it is of."""

    row: int
    source: int


def check_vectors(
    bundle: Bundle,
    options: RuntimeOptions,
    stored: VectorFile,
    source: VectorSource,
    *,
    most: int,
    tolerances: Mapping[str, float],
    tell: Callable[[str], None] = lambda _: None,
) -> VectorCheck:
    """Compare stored vectors with what a model gives, and try what may have made them.

    Args:
        bundle: the model.
        options: what runs it; the precision ``auto`` stands for f32.
        stored: the vectors.
        source: what they are of.
        most: so many vectors are compared at most, evenly chosen.
        tolerances: the user's own; ``values`` counts.
        tell: takes a line of progress.

    Raises:
        UsageError: the vectors are of another width than the model's, or it is not known which is of what.
        RuntimeUnavailableError: the model cannot be run as asked.
    """
    card = bundle.card
    if stored.rows.shape[1] != card.dim:
        raise UsageError(
            f"the vectors in {stored.path} have {stored.rows.shape[1]} numbers; {card.name} gives {card.dim}",
            hint="another model's, cut short, or taken before the projection?",
        )
    pairs = _pair(stored, source)
    with ExitStack() as opened:
        runs = TowerRuns(bundle, source.role, options, opened)
        if runs.find_encoder(runs.precision) is None:
            raise RuntimeUnavailableError(
                f"{card.name} cannot be run in {runs.precision} here",
                hint="--runtime, --device and --precision say how",
            )
        limit = tolerances.get("values", _find_tolerance(stored, runs.precision))
        chosen = _Compared(stored=stored, source=source, pairs=pairs, most=most, tolerance=limit)
        if source.role == "image":
            return _check(runs, open_image_recipes(runs, source.options), chosen, tell)
        return _check(runs, open_text_recipes(runs), chosen, tell)


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """What is compared."""

    stored: VectorFile
    source: VectorSource
    pairs: Sequence[_Pair]
    most: int
    tolerance: float


def _check(runs: TowerRuns, recipes: Recipes[R], chosen: _Compared, tell: Callable[[str], None]) -> VectorCheck:
    stored, source, card = chosen.stored, chosen.source, runs.bundle.card
    encoder = runs.find_encoder(runs.precision)
    assert encoder is not None  # as was looked before
    lengths = np.linalg.norm(stored.rows.astype(np.float64), axis=1)
    full = np.isfinite(lengths) & (lengths > 0)
    whole = [pair for pair in chosen.pairs if full[pair.row]]
    tried = [whole[place] for place in spread(len(whole), chosen.most)]
    made, kept, unread = _embed_all(recipes, tried, source.files, tell)
    if not kept:
        reason = unread if whole else "all that are looked at are zero, or hold NaN or infinity"
        raise UsageError(f"of the {len(full)} vectors in {stored.path} there is none to compare: {reason}")
    rows = unit_rows(stored.rows[[pair.row for pair in kept]])
    distances = measure_distances(made, rows)
    cosines = 1 - distances**2 / 2
    worst = np.argsort(-distances, kind="stable")[: int((distances > chosen.tolerance).sum())]
    causes = VectorCauses()
    if len(worst) and (order := find_order(unit_rows(made), rows, chosen.tolerance)):
        causes = VectorCauses(proven=(order,), confirmed=len(kept))
    elif len(worst):
        files = [source.files[kept[place].source] for place in worst]
        causes = explain_vectors(recipes, files, rows[worst], chosen.tolerance, tell)
    return VectorCheck(
        file=stored.path,
        model=card.name,
        role=source.role,
        runtime=encoder.runtime,
        device=encoder.device,
        precision=encoder.precision,
        vectors=len(full),
        dim=card.dim,
        stored_as=str(stored.rows.dtype),
        shortest=float(lengths[full].min()),
        longest=float(lengths[full].max()),
        normalised=bool(np.abs(lengths[full] - 1).max() <= _UNIT),
        empty=int((~full).sum()),
        unreadable=len(tried) - len(kept),
        compared=len(kept),
        differing=len(worst),
        tolerance=chosen.tolerance,
        median_cosine=float(np.median(cosines)),
        least_cosine=float(cosines.min()),
        worst=tuple(
            FarVector(index=kept[place].row, name=source.names[kept[place].source], cosine=float(cosines[place]))
            for place in worst[:_WORST]
        ),
        verdict="differs" if len(worst) else "same",
        causes=causes,
        card_sha256=card_hash(card),
        environment=describe_environment(),
    )


def _embed_all(
    recipes: Recipes[R], pairs: Sequence[_Pair], files: Sequence[str], tell: Callable[[str], None]
) -> tuple[Rows, list[_Pair], str | None]:
    """The model's vectors of all that can be read, which that is, and why the first of the others cannot."""
    made: list[Rows] = []
    unread: str | None = None
    kept: list[_Pair] = []
    for start in range(0, len(pairs), _BATCH):
        tell(f"{start:,} of {len(pairs):,} compared")
        part = pairs[start : start + _BATCH]
        for some in (part, *([pair] for pair in part)):  # at once, or, where one cannot be read, one by one
            try:
                rows = recipes.make(recipes.start, [files[pair.source] for pair in some])
            except ImageError as error:
                unread = unread or error.message
                continue
            assert rows is not None  # the tower as it is, in a precision that is available
            made.append(rows)
            kept += some
            if some is part:
                break
    return np.concatenate(made) if made else np.empty((0, 0)), kept, unread


def _pair(stored: VectorFile, source: VectorSource) -> list[_Pair]:
    """Which vector is of what: by names where the file has them, else by order."""
    if not stored.names:
        if len(stored.rows) != len(source.files):
            what = "images" if source.role == "image" else "texts"
            raise UsageError(
                f"{stored.path} has {len(stored.rows)} vectors without names; {len(source.files)} {what} are given",
                hint="give what the vectors are of, in their order",
            )
        return [_Pair(row, row) for row in range(len(stored.rows))]
    places = {name: row for row, name in enumerate(stored.names)}
    last: dict[str, int | None] = {}  # rows by the last part of a name, where that is one's alone
    for name, number in places.items():
        key = os.path.basename(name)  # noqa: PTH119  # of a name that need not be a path
        last[key] = None if key in last else number
    found = []
    for place, name in enumerate(source.names):
        row: int | None = places.get(name)
        if row is None and source.role == "image":
            row = last.get(os.path.basename(name))  # noqa: PTH119  # as above
        if row is not None:
            found.append(_Pair(row, place))
    if not found:
        raise UsageError(
            f"{stored.path} has vectors of {stored.names[0]!r} and others, none of what is given: {source.names[0]!r}"
        )
    return sorted(found)


def _find_tolerance(stored: VectorFile, precision: str) -> float:
    least = TOLERANCES["values"][precision]
    return least if stored.rows.dtype.kind == "f" else max(least, _WHOLE_NUMBERS)
