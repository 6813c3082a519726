"""Evaluation where an image may have several classes: hits among the best k, and average precision by class."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from clipworks.errors import UsageError
from clipworks.evaluation.accuracy import count_accuracy
from clipworks.evaluation.evaluation import ClassPrecision, Errors, LabelSetEvaluation
from clipworks.results.records import Record

FindLabels = Callable[[Record], tuple[int, ...] | None]
"""Tells the classes of a record; None for a record that nothing tells them of."""


def evaluate_label_sets(
    records: Iterable[Record],
    find_labels: FindLabels,
    *,
    ks: Sequence[int] = (1, 5),
    errors: Errors = "wrong",
    names: Sequence[str] = (),
) -> LabelSetEvaluation:
    """Evaluate results by truth of several classes an image; memory grows with images times classes.

    Average precision wants the scores of every class: those of ``names``, else those that the records hold.

    Args:
        records: the results.
        find_labels: the truth.
        ks: hits are counted among the best k.
        errors: images that could not be read have no hit, and none of their classes found; or they are left out.
        names: the classes'.

    Raises:
        UsageError: a k that is below 1 or beyond what the records keep, or no image that has a class.
    """
    if not ks or min(ks) < 1:
        raise UsageError(f"k is {min(ks, default=None)}; allowed: 1 or more")
    tally = _LabelTally(tuple(sorted(set(ks))), dict(enumerate(names)), errors)
    for record in records:
        tally.add(record, find_labels(record))
    return tally.conclude(len(names))


def average_precision(scores: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], count: int) -> float:
    """The average precision of one class.

    Args:
        scores: of the images, ``[n]``; equal ones are taken together.
        right: whether each image has the class.
        count: images that have it, those without a score among them; at least 1.

    Source: ``average_precision_score`` of scikit-learn: the sum of the recall gained at each score times the precision
        there.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, found = scores[order], np.cumsum(right[order])
    last = np.append(ranked[1:] != ranked[:-1], np.ones(min(len(ranked), 1), bool))  # of its score
    hits, places = found[last], np.flatnonzero(last) + 1
    return float(np.sum(np.diff(hits, prepend=0) * (hits / places)) / count)


class _LabelTally:
    """Counts and scores, image by image."""

    def __init__(self, ks: tuple[int, ...], names: dict[int, str], errors: Errors) -> None:
        self._ks, self._names, self._errors_as = ks, names, errors
        self._images = self._labelled = self._unlabelled = self._errors = self._without_truth = 0
        self._hits = dict.fromkeys(ks, 0)
        self._truths: list[tuple[int, ...]] = []  # of the images that have scores
        self._counts: dict[int, int] = {}
        # Of each image one after another: how many scores, their classes, and they themselves.
        self._lengths, self._ids, self._scores = array("q"), array("i"), array("d")

    def add(self, record: Record, known: tuple[int, ...] | None) -> None:
        self._images += 1
        self._names |= {guess.id: guess.name for guess in record.top if guess.name is not None}
        if known is None:
            self._without_truth += 1
            return
        if record.error is not None:
            self._errors += 1
            if self._errors_as == "skip":
                return
        self._labelled += bool(known)
        self._unlabelled += not known
        for truth in known:
            self._counts[truth] = self._counts.get(truth, 0) + 1
        if record.error is not None:
            return
        ids = [guess.id for guess in record.top]
        if len(ids) < self._ks[-1]:
            raise UsageError(
                f"{record.path} has {len(ids)} classes in the results; hit@{self._ks[-1]} needs as many",
                hint=f"ask for a smaller k, or classify with --top {self._ks[-1]}",
            )
        for k in self._ks if known else ():
            self._hits[k] += not set(known).isdisjoint(ids[:k])
        self._truths.append(known)
        self._lengths.append(len(ids))
        self._ids.extend(ids)
        self._scores.extend(guess.score for guess in record.top)

    def conclude(self, classes: int) -> LabelSetEvaluation:
        if not self._labelled:
            raise UsageError(
                f"of {self._images} images there is none to evaluate: {self._without_truth} without a known truth, "
                f"{self._errors} that could not be read, {self._unlabelled} without a class",
            )
        found: tuple[ClassPrecision, ...] = ()
        lengths, ids = np.array(self._lengths), np.array(self._ids)
        wanted = classes or len(np.unique(ids))
        missing = int((lengths < wanted).sum())
        if not missing:
            found = tuple(self._measure(ids.reshape(len(lengths), wanted if len(lengths) else 0)))
        return LabelSetEvaluation(
            images=self._images,
            labelled=self._labelled,
            unlabelled=self._unlabelled,
            labels=sum(self._counts.values()),
            errors=self._errors,
            errors_as=self._errors_as,
            without_truth=self._without_truth,
            hits=tuple(count_accuracy(k, self._hits[k], self._labelled) for k in self._ks),
            mean_average_precision=float(np.mean([one.average_precision for one in found])) if found else None,
            classes=found,
            missing_scores=missing,
        )

    def _measure(self, ids: npt.NDArray[np.integer]) -> Iterable[ClassPrecision]:
        rows = np.full((len(ids), max(ids.max(initial=0), *self._counts) + 1), -np.inf)
        np.put_along_axis(rows, ids, np.array(self._scores).reshape(ids.shape), axis=1)
        for truth in sorted(self._counts):
            right = np.array([truth in known for known in self._truths], bool)
            yield ClassPrecision(
                id=truth,
                name=self._names.get(truth),
                count=self._counts[truth],
                average_precision=average_precision(rows[:, truth], right, self._counts[truth]),
            )
