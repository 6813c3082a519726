"""Deviations: how far one stage's values lie from the reference's, and where the largest difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipworks.doctor.stages import Array, Stage

# Directions are compared, not lengths: who normalises its embeddings early is not wrong.
_DIRECTIONS = ("image_embedding", "text_embedding")


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How two pipelines' values of one stage compare."""

    # what is compared with the tolerance: ``largest`` or ``relative`` or the share of texts that differ, as the stage's
    # measure says; None where it is NaN or Inf
    judged: float | None = None
    largest: float | None = None  # absolute difference, in levels of 255 for pixels
    relative: float | None = None  # of the worst sample: length of the difference over length of the reference
    cosine: float | None = None  # of the worst sample; None for a sample of zeros
    where: tuple[int, ...] = ()  # sample, then the place in its array, of the largest difference
    found: float | None = None  # the value there
    expected: float | None = None
    broken: int = 0  # values that are NaN or Inf
    note: str = ""  # why the arrays could not be compared value by value, or empty


def compare_stage(
    stage: Stage, found: Sequence[Array], expected: Sequence[Array], *, unit: Array | None = None
) -> Deviation:
    """Compare one stage's values, one array a sample; ``unit`` is a value's in levels of 255, for normalised pixels."""
    if len(found) != len(expected):
        return Deviation(where=(0,), note=f"{len(found)} samples, the reference has {len(expected)}")
    if stage.measure == "tokens":
        return _compare_tokens(found, expected)
    pairs = [align(stage, one, other) for one, other in zip(found, expected, strict=True)]
    for sample, (one, other) in enumerate(pairs):
        if one.shape != other.shape:
            note = f"shape {list(one.shape)}, the reference has {list(other.shape)}"
            return Deviation(where=(sample,), note=note)
    if any(not np.isfinite(array).all() for pair in pairs for array in pair):
        return _count_broken(pairs)
    scale = 1.0 if unit is None else unit
    differences = [np.abs(one - other) * scale for one, other in pairs]
    sample = int(np.argmax([difference.max(initial=0) for difference in differences]))
    place = tuple(map(int, np.unravel_index(int(np.argmax(differences[sample])), differences[sample].shape)))
    relatives = [float(np.linalg.norm(one - other) / max(float(np.linalg.norm(other)), 1e-30)) for one, other in pairs]
    lengths = [float(np.linalg.norm(one) * np.linalg.norm(other)) for one, other in pairs]
    cosines = [
        float(np.sum(one * other) / length) for (one, other), length in zip(pairs, lengths, strict=True) if length
    ]
    largest = float(differences[sample][place])
    one, other = pairs[sample]
    return Deviation(
        judged=largest if stage.measure in ("levels", "scores") else max(relatives),
        largest=largest,
        relative=max(relatives),
        cosine=min(cosines, default=None),
        where=(sample, *place),
        found=float(one[place]),
        expected=float(other[place]),
    )


def _count_broken(pairs: Sequence[tuple[Array, Array]]) -> Deviation:
    counts = [sum(int((~np.isfinite(pair[side])).sum()) for pair in pairs) for side in (0, 1)]
    side = 0 if counts[0] else 1
    sample = next(index for index, pair in enumerate(pairs) if not np.isfinite(pair[side]).all())
    place = tuple(int(axis[0]) for axis in np.nonzero(~np.isfinite(pairs[sample][side])))
    one, other = (float(array[place]) for array in pairs[sample])
    who = "" if counts[0] else " of the reference's"
    return Deviation(
        where=(sample, *place),
        found=one if np.isfinite(one) else None,
        expected=other if np.isfinite(other) else None,
        broken=max(counts),
        note=f"{counts[side]}{who} values are NaN or Inf",
    )


def align(stage: Stage, found: Array, expected: Array) -> tuple[Array, Array]:
    """Bring two samples of a stage to what both hold, in float64.

    Of a last layer one side may have the pooled row alone: which row it is, is the next stage's question, so it is
    compared with the row that it is nearest to. Of a text one side may have rows behind the end token.
    """
    one, other = found.astype(np.float64), expected.astype(np.float64)
    if stage.name in _DIRECTIONS:
        return _unit(one), _unit(other)
    if stage.measure == "values" and stage.branch != "joint":
        if one.ndim == 1 and other.ndim == 2 and one.shape[-1] == other.shape[-1]:
            return one, other[find_row(one, other)]
        if one.ndim == 2 and other.ndim == 1 and one.shape[-1] == other.shape[-1]:
            return one[find_row(other, one)], other
        if stage.branch == "text" and one.ndim == other.ndim == 2:
            both = min(len(one), len(other))
            return one[:both], other[:both]
    return one, other


def find_row(row: Array, rows: Array) -> int:
    """The nearest of some rows to one: ``[width]`` among ``[n, width]``."""
    distances = np.linalg.norm(rows.astype(np.float64) - row.astype(np.float64), axis=-1)
    return int(np.argmin(np.nan_to_num(distances, nan=np.inf)))


def _unit(row: Array) -> Array:
    length = np.linalg.norm(row)
    return np.asarray(row / length) if np.isfinite(length) and length > 0 else row


def _compare_tokens(found: Sequence[Array], expected: Sequence[Array]) -> Deviation:
    """Ids are names, not quantities: what counts is how many texts differ, and the first place where one does."""
    differing = [index for index, pair in enumerate(zip(found, expected, strict=True)) if not np.array_equal(*pair)]
    if not differing:
        return Deviation(judged=0.0)
    one, other = found[differing[0]], expected[differing[0]]
    place = find_difference(one, other)
    return Deviation(
        judged=len(differing) / len(expected),
        where=(differing[0], place),
        found=float(one[place]) if place < len(one) else None,
        expected=float(other[place]) if place < len(other) else None,
        note=f"{len(differing)} of {len(expected)} texts have other tokens",
    )


def find_difference(one: Array, other: Array) -> int:
    """The first place where two rows of ids differ; the end of the shorter one where it is the other's beginning."""
    both = min(len(one), len(other))
    apart = np.nonzero(one[:both] != other[:both])[0]
    return int(apart[0]) if len(apart) else both
