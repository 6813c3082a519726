"""Evaluation of a results file with what lies beside it: the run's manifest, with its labels and its settings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipworks.datasets.locations import join_place
from clipworks.evaluation.accuracy import evaluate
from clipworks.evaluation.evaluation import Errors, Evaluation, LabelSetEvaluation
from clipworks.evaluation.label_sets import evaluate_label_sets
from clipworks.evaluation.truth import find_in_results, find_label_set, guess_labels, read_label_sets, read_truth
from clipworks.results.formats import read_results
from clipworks.results.journal import FOLDER_MANIFEST, manifest_path, read_manifest
from clipworks.results.shards import is_shard_folder
from clipworks.text.prompts import Labels, read_labels

# Records that must all fit a built-in label set before it is taken for theirs.
_GUESSED_FROM = 2000


@dataclass(frozen=True, kw_only=True)
class FileLabels:
    """The labels of a results file, whether its names alone told them, and its run's settings, if it has some."""

    labels: Labels | None
    guessed: bool
    settings: dict[str, Any]
    encoding: str | None  # of the files of labels and truth, None for UTF-8, or UTF-16 with a byte order mark


def read_file_labels(path: str, labels: str | None = None, *, encoding: str | None = None) -> FileLabels:
    """Find the labels of a results file: those of a set's name or file, its manifest's, or a built-in set that fits.

    ``encoding`` is that of the files of labels and truth.

    Raises:
        UsageError, ResultsError: as `clipworks.results.formats.read_results`, or a manifest that is damaged.
    """
    manifest = _read_manifest(path)
    settings = manifest.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    if labels:
        named = read_labels(labels, encoding=encoding)
        return FileLabels(labels=named, guessed=False, settings=settings, encoding=encoding)
    kept = manifest.get("labels")
    if isinstance(kept, dict) and "names" in kept:
        recorded = Labels(name=str(kept.get("name")), names=tuple(kept["names"]), ids=tuple(kept.get("ids", ())))
        if not recorded.ids and (known := find_label_set(enumerate(recorded.names))):  # a file of a set's names alone
            recorded = dataclasses.replace(recorded, ids=known.ids[: len(recorded)])
        return FileLabels(labels=recorded, guessed=False, settings=settings, encoding=encoding)
    guessed = guess_labels(itertools.islice(read_results(path), _GUESSED_FROM))
    return FileLabels(labels=guessed, guessed=guessed is not None, settings=settings, encoding=encoding)


def _read_manifest(path: str) -> dict[str, Any]:
    """The manifest in a folder of shards or beside a file, or nothing where there is none."""
    if is_shard_folder(path):
        return read_manifest(join_place(path, FOLDER_MANIFEST))
    return read_manifest(manifest_path(path)) if Path(manifest_path(path)).exists() else {}


def evaluate_file(
    path: str,
    known: FileLabels,
    *,
    truth: str | None = None,
    ks: Sequence[int] = (),
    errors: Errors = "wrong",
    most: int = 10,
) -> Evaluation:
    """Evaluate a results file by a truth file, or what the results tell; raises as `evaluate` and what reads the files.

    Without ``ks`` top-1 and top-5 are counted, as far as the results go; ``most`` are listed of each kind.
    """
    find_truth = read_truth(truth, known.labels, encoding=known.encoding) if truth else find_in_results(known.labels)
    ks = ks or _choose_ks(path)
    names = known.labels.names if known.labels else ()
    return evaluate(read_results(path), find_truth, ks=ks, errors=errors, names=names, most=most)


def evaluate_label_file(
    path: str, known: FileLabels, truth: str, *, ks: Sequence[int] = (), errors: Errors = "wrong"
) -> LabelSetEvaluation | None:
    """Evaluate a results file by a truth file of several classes an image; None where it is of one each.

    Raises as `evaluate_file`.
    """
    find_labels = read_label_sets(truth, known.labels, encoding=known.encoding)
    if find_labels is None:
        return None
    names = known.labels.names if known.labels else ()
    records = read_results(path)
    return evaluate_label_sets(records, find_labels, ks=ks or _choose_ks(path), errors=errors, names=names)


def _choose_ks(path: str) -> list[int]:
    """1 and 5, as far as the results go."""
    depth = next((len(record.top) for record in read_results(path) if record.top), 5)
    return [k for k in (1, 5) if k <= depth]


def count_missing(found: Evaluation | LabelSetEvaluation, known: FileLabels) -> int | None:
    """How many images the whole run has, where the file holds fewer of them; else None."""
    total = known.settings.get("images", found.images)
    return int(total) if found.images < total else None
