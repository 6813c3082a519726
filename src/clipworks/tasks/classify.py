"""Classification: a data set, a model and its zero-shot classifier become a results file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from clipworks.bundle.card import ScoreRule
from clipworks.datasets.ground_truth import find_truths
from clipworks.datasets.listing import DataSet, Sample
from clipworks.errors import UsageError
from clipworks.model import Model
from clipworks.pipeline import EmbeddedBlock
from clipworks.results.formats import FORMATS, choose_format, choose_stream
from clipworks.results.manifest import hash_texts
from clipworks.results.records import Prediction, Record, RunProgress, RunSize
from clipworks.scoring import Floats
from clipworks.tasks.runs import DEFAULT_RUN_OPTIONS, RunOptions, Task, run_task, stream_task
from clipworks.tasks.zero_shot import FoldedClassifier, fold_classifier, hash_classifier
from clipworks.text.prompts import Labels


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of a classification."""

    labels: Labels  # their names
    templates: tuple[str, ...]  # those that make the zero-shot classifier
    top: int = 5  # classes kept for each image, at least 1; all where there are fewer
    truncate: bool = False  # whether prompts that are longer than the model's context are cut

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"top is {self.top}; allowed: 1 or more")

    @property
    def depth(self) -> int:
        """Classes kept for each image, at most all."""
        return min(self.top, len(self.labels))

    def list_settings(self, classifier: Floats) -> dict[str, Any]:
        """Whatever of them changes a record, for a manifest."""
        return {
            "labels_sha256": hash_texts([*self.labels.names, "", *self.labels.ids]),
            "templates_sha256": hash_texts(self.templates),
            "classifier_sha256": hash_classifier(classifier),
            "top": self.top,
        }

    def describe(self) -> dict[str, Any]:
        """What a reader of the results wants to know, for a manifest."""
        return {"labels": asdict(self.labels), "templates": list(self.templates)}


def classify(
    model: Model,
    dataset: DataSet,
    classes: Classes,
    classifier: Floats,
    output: str | os.PathLike[str] | BinaryIO,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> RunProgress:
    """Classify a data set into a results file, or resume an earlier run; ``<output>.run.json`` says what made it.

    An output that is a file open for writing in binary mode gets the records as they come; no run can resume it.

    The classifier is float32 unit rows ``[classes, dim]``; see `clipworks.tasks.zero_shot`.

    Raises:
        UsageError: the file was begun with other settings, or a list's label is no class.
        ResultsError: the file cannot be written, or another run is writing it; what is there is kept.
    """
    truths, folded, rule = find_truths(dataset, classes.labels), fold_classifier(classifier), model.card.score
    task = Task[Record](
        settings=classes.list_settings(classifier),
        described=classes.describe(),
        size=RunSize(total=len(dataset), top=classes.depth),
        make_records=lambda block: classify_block(block, truths, classes, folded, rule),
    )
    if isinstance(output, str | os.PathLike):
        chosen = choose_format(options.format, output)
        return run_task(model, dataset, task, os.fspath(output), (chosen, FORMATS[chosen]), options)
    return stream_task(model, dataset, task, choose_stream(options.format), output, options)


def classify_block(
    block: EmbeddedBlock[Sample],
    truths: Callable[[Sample], int | None],
    classes: Classes,
    classifier: FoldedClassifier,
    rule: ScoreRule,
) -> list[Record]:
    """Turn a block of embeddings into records, in order; ``truths`` finds a sample's class."""
    names = classes.labels.names
    ranked = zip(*classifier.rank(block.rows, rule, classes.depth), strict=True) if len(block.rows) else iter(())
    records = []
    for index, (sample, error) in enumerate(zip(block.items, block.errors, strict=True), block.start):
        best, scores = ((), ()) if error is not None else next(ranked)
        top = tuple(Prediction(id=int(place), score=float(scores[place]), name=names[place]) for place in best)
        records.append(Record(index=index, path=sample.path, truth=truths(sample), top=top, error=error))
    return records
