"""Accuracy of rows beside each other on the same images: paired differences, and agreement with f32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clipworks import scoring
from clipworks.bundle.card import ScoreRule
from clipworks.comparison.figures import Agreement, ChangedImage, Difference
from clipworks.evaluation.accuracy import count_accuracy, wilson
from clipworks.evaluation.evaluation import Accuracy
from clipworks.tasks.zero_shot import FoldedClassifier, fold_classifier
from clipworks.text.prompts import Labels

KS = (1, 5)
_LISTED = 12
_CHUNK = 512

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """What a row made of the images: float32 unit rows ``[readable images, dim]`` and ``[classes, dim]``."""

    images: scoring.Floats
    head: scoring.Floats
    rule: ScoreRule

    @cached_property
    def folded(self) -> FoldedClassifier:
        """The head as `clipworks.tasks.classify` takes it: classes of one name tie to the last bit."""
        return fold_classifier(self.head)

    def compare(self, start: int) -> scoring.Floats:
        """Cosines of one chunk of images with the classes."""
        return self.folded.compare(self.images[start : start + _CHUNK])

    def score(self, start: int) -> npt.NDArray[np.float64]:
        """Scores of one chunk of images with the classes."""
        return scoring.score(self.compare(start), self.rule)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The readable images that every row embeds."""

    paths: Sequence[str]
    truths: Sequence[int | None]  # the class of each, where known
    lost: int  # images of a known class that could not be read: wrong in every row
    labels: Labels


def find_correct(row: Embedded, pool: Pool) -> dict[int, Bools]:
    """For each k, which images of a known class have it among the best k; those that could not be read come last."""
    known = np.array([place for place, truth in enumerate(pool.truths) if truth is not None], dtype=np.intp)
    wanted = np.array([truth for truth in pool.truths if truth is not None], dtype=np.intp)
    ks = [k for k in KS if k <= len(pool.labels)]
    best = np.concatenate(
        [scoring.rank(row.compare(start), max(ks)) for start in range(0, len(pool.paths), _CHUNK)]
        or [np.empty((0, max(ks)), np.intp)]
    )[known]
    lost = np.zeros(pool.lost, dtype=bool)
    return {k: np.concatenate([(best[:, :k] == wanted[:, None]).any(axis=1), lost]) for k in ks}


def measure_accuracy(correct: dict[int, Bools]) -> tuple[Accuracy, ...]:
    """Top-k with 95% intervals; empty where no class is known."""
    return tuple(count_accuracy(k, int(right.sum()), len(right)) for k, right in correct.items() if len(right))


def compare_accuracy(own: dict[int, Bools], other: dict[int, Bools], reference: str) -> tuple[Difference, ...]:
    """Paired differences to another row at each k."""
    return tuple(_compare(own[k], other[k], k, reference) for k in own if len(own[k]))


def _compare(own: Bools, other: Bools, k: int, reference: str) -> Difference:
    """Newcombe's interval for paired shares (his method 10), McNemar's exact test.

    Source: Newcombe 1998, Statistics in Medicine 17, 2635-2650; McNemar 1947, with the binomial distribution.
    """
    count = len(own)
    only_row, only_reference = int((own & ~other).sum()), int((other & ~own).sum())
    both, neither = int((own & other).sum()), int((~own & ~other).sum())
    first, second = float(own.mean()), float(other.mean())
    (low1, high1), (low2, high2) = (wilson(int(right.sum()), count) for right in (own, other))
    sides = (both + only_row) * (only_reference + neither) * (both + only_reference) * (only_row + neither)
    product: float = both * neither - only_row * only_reference
    if product > 0:
        product = max(product - count / 2, 0.0)
    phi = product / math.sqrt(sides) if sides else 0.0
    difference = (only_row - only_reference) / count

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    return Difference(
        reference=reference,
        k=k,
        count=count,
        only_row=only_row,
        only_reference=only_reference,
        difference=difference,
        low=difference - reach(first - low1, high2 - second),
        high=difference + reach(high1 - first, second - low2),
        p_value=mcnemar(only_row, only_reference),
    )


def mcnemar(first: int, second: int) -> float:
    """How likely a split of differing images is as uneven as this one, two-sided, where both sides are alike."""
    total, least = first + second, min(first, second)
    term = tail = 1  # the binomial coefficients, each from the one before
    for number in range(least):
        term = term * (total - number) // (number + 1)
        tail += term
    return min(1.0, float(2 * tail / 2**total))


def measure_agreement(row: Embedded, reference: Embedded, pool: Pool, name: str) -> Agreement | None:
    """How near a row comes to its reference; None without an image."""
    count = len(pool.paths)
    if count == 0:
        return None
    cosines = np.sum(row.images.astype(np.float64) * reference.images, axis=1)
    changes, own, theirs = np.empty(count), np.empty((count, 2)), np.empty((count, 2))
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        found, expected = row.score(start), reference.score(start)
        changes[part] = np.abs(found - expected).max(axis=1)
        for kept, scores in ((own, found), (theirs, expected)):
            best = scores.argmax(axis=1)
            kept[part] = np.stack([best, scores[np.arange(len(best)), best]], axis=1)
    same = own[:, 0] == theirs[:, 0]

    def describe(place: int) -> ChangedImage:
        truth, names = pool.truths[place], pool.labels.names
        (row_class, row_score), (reference_class, reference_score) = own[place], theirs[place]
        return ChangedImage(
            path=pool.paths[place],
            cosine=float(cosines[place]),
            score_change=float(changes[place]),
            truth=truth,
            truth_name=None if truth is None else names[truth],
            reference_class=int(reference_class),
            reference_name=names[int(reference_class)],
            reference_score=float(reference_score),
            row_class=int(row_class),
            row_name=names[int(row_class)],
            row_score=float(row_score),
        )

    ordered = np.sort(cosines)
    worst = np.argsort(cosines, kind="stable")[:_LISTED]
    moved = [place for place in np.argsort(-changes, kind="stable") if not same[place]]
    return Agreement(
        reference=name,
        count=count,
        cosine_min=float(ordered[0]),
        cosine_p1=float(ordered[max(0, math.ceil(count / 100) - 1)]),
        cosine_median=float(np.median(cosines)),
        head_cosine_min=float(np.sum(row.head.astype(np.float64) * reference.head, axis=1).min()),
        top1=count_accuracy(1, int(same.sum()), count),
        score_change_max=float(changes.max()),
        worst=tuple(describe(int(place)) for place in worst),
        changed=tuple(describe(int(place)) for place in moved[:_LISTED]),
    )
