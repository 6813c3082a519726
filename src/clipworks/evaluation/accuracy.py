"""Accuracy, confusions and calibration of a results file, counted in one pass."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from clipworks.errors import UsageError
from clipworks.evaluation.evaluation import (
    Accuracy,
    Bin,
    Calibration,
    ClassResult,
    Confusion,
    Errors,
    Evaluation,
    WrongImage,
)
from clipworks.results.records import Record

# Two-sided 95% of the normal distribution.
_Z = 1.959963984540054
BINS = 15

# Tells the class of a record and where that is known from; None for a record that nothing tells the class of.
FindTruth = Callable[[Record], tuple[int, str] | None]


def evaluate(
    records: Iterable[Record],
    find_truth: FindTruth,
    *,
    ks: Sequence[int] = (1, 5),
    errors: Errors = "wrong",
    names: Sequence[str] = (),
    most: int = 20,
) -> Evaluation:
    """Evaluate results, in one pass; memory grows with the classes, not with the images.

    ``names`` are the classes'; those in the records are taken where there are none. ``most`` confusions and worst
    images are listed.

    Raises:
        UsageError: a k that is below 1 or beyond what the records keep, or no image whose truth is known.
    """
    if errors not in ("wrong", "skip"):
        raise UsageError(f"errors is {errors!r}; allowed: wrong, skip")
    if not ks or min(ks) < 1:
        raise UsageError(f"k is {min(ks, default=None)}; allowed: 1 or more")
    tally = _Tally(tuple(sorted(set(ks))), dict(enumerate(names)), most, errors)
    for record in records:
        tally.add(record, find_truth(record))
    return tally.conclude()


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share, by Wilson's score; (0, 1) of nothing."""
    if count == 0:
        return 0.0, 1.0
    share = correct / count
    centre = share + _Z * _Z / (2 * count)
    spread = _Z * math.sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count))
    scale = 1 + _Z * _Z / count
    # At the ends the formula gives 0 and 1, but for rounding.
    low = 0.0 if correct == 0 else (centre - spread) / scale
    return low, 1.0 if correct == count else (centre + spread) / scale


def count_accuracy(k: int, correct: int, count: int) -> Accuracy:
    """Top-k accuracy with its 95% interval, over at least one image."""
    low, high = wilson(correct, count)
    return Accuracy(k=k, correct=correct, count=count, share=correct / count, low=low, high=high)


class _Tally:
    """Counts, image by image."""

    def __init__(self, ks: tuple[int, ...], names: dict[int, str], most: int, errors: Errors) -> None:
        self._ks = ks
        self._names = names
        self._most = most
        self._errors_as: Errors = errors
        self._images = self._errors = self._without_truth = 0
        self._sources: Counter[str] = Counter()
        self._counts: Counter[int] = Counter()
        self._class_errors: Counter[int] = Counter()
        self._correct: dict[int, Counter[int]] = {k: Counter() for k in ks}
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._predicted: Counter[int] = Counter()
        # Score, minus the image's number (of equal scores the earlier one stays), and the class that it is of.
        self._worst: list[tuple[float, int, Record, int]] = []
        self._bins = np.zeros((BINS, 3))

    def add(self, record: Record, known: tuple[int, str] | None) -> None:
        self._images += 1
        for guess in record.top:
            if guess.name is not None:
                self._names.setdefault(guess.id, guess.name)
        if known is None:
            self._without_truth += 1
            return
        truth, source = known
        self._sources[source] += 1
        if record.error is not None:
            self._errors += 1
            if self._errors_as == "wrong":
                self._counts[truth] += 1
                self._class_errors[truth] += 1
            return
        ids = [guess.id for guess in record.top]
        if len(ids) < self._ks[-1]:
            raise UsageError(
                f"{record.path} has {len(ids)} classes in the results; top-{self._ks[-1]} needs as many",
                hint=f"ask for a smaller k, or classify with --top {self._ks[-1]}",
            )
        self._counts[truth] += 1
        for k in self._ks:
            self._correct[k][truth] += truth in ids[:k]
        self._pairs[truth, ids[0]] += 1
        self._predicted[ids[0]] += 1
        self._add_score(record, truth)

    def _add_score(self, record: Record, truth: int) -> None:
        best = record.top[0]
        right = best.id == truth
        if not math.isfinite(best.score):  # neither a probability nor comparable
            return
        # Ranges are open below and closed above, as in the definition: a score of 1 is in the last one.
        place = min(max(math.ceil(best.score * BINS) - 1, 0), BINS - 1)
        self._bins[place] += (1, best.score, right)
        if not right:
            heapq.heappush(self._worst, (best.score, -self._images, record, truth))
            if len(self._worst) > self._most:
                heapq.heappop(self._worst)

    def conclude(self) -> Evaluation:
        count = self._counts.total()
        if count == 0:
            raise UsageError(
                f"of {self._images} images there is none to evaluate: {self._without_truth} without a known truth, "
                f"{self._errors} that could not be read",
                hint="--truth FILE gives the truth, --labels L what WordNet ids and names in paths mean",
            )
        shares = [self._correct[1][truth] / total for truth, total in self._counts.items()] if 1 in self._ks else []
        confused = sorted((-number, pair) for pair, number in self._pairs.items() if pair[0] != pair[1])
        name = self._names.get
        return Evaluation(
            images=self._images,
            evaluated=count,
            errors=self._errors,
            errors_as=self._errors_as,
            without_truth=self._without_truth,
            truth_from=dict(self._sources.most_common()),
            accuracy=tuple(count_accuracy(k, self._correct[k].total(), count) for k in self._ks),
            mean_class_accuracy=float(np.mean(shares)) if shares else None,
            classes=tuple(
                ClassResult(
                    id=truth,
                    name=name(truth),
                    count=self._counts[truth],
                    correct=tuple(self._correct[k][truth] for k in self._ks),
                    errors=self._class_errors[truth],
                    predicted=self._predicted[truth],
                )
                for truth in sorted(self._counts)
            ),
            confusions=tuple(
                Confusion(truth=truth, truth_name=name(truth), predicted=guess, predicted_name=name(guess), count=-n)
                for n, (truth, guess) in confused[: self._most]
            ),
            worst=tuple(
                WrongImage(
                    path=record.path,
                    truth=truth,
                    truth_name=name(truth),
                    predicted=record.top[0].id,
                    predicted_name=name(record.top[0].id),
                    score=score,
                    truth_score=next((guess.score for guess in record.top if guess.id == truth), None),
                )
                for score, _, record, truth in sorted(self._worst, reverse=True)
            ),
            calibration=self._calibrate(),
        )

    def _calibrate(self) -> Calibration:
        bins = tuple(
            Bin(upper=place / BINS, count=int(count), confidence=scores / count, accuracy=right / count)
            for place, (count, scores, right) in enumerate(self._bins.tolist(), 1)
            if count
        )
        total = sum(item.count for item in bins)
        ece = sum(abs(item.accuracy - item.confidence) * item.count for item in bins) / total if total else None
        return Calibration(ece=ece, bins=bins)
