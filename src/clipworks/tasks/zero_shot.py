"""Zero-shot classifiers: the matrix of class embeddings that class names and templates make, kept for the next run."""

from __future__ import annotations

import functools
import hashlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clipworks import scoring
from clipworks.bundle.card import Card, ScoreRule
from clipworks.cache import find_cache, open_folder, read_checked, write_checked
from clipworks.errors import ClipworksWarning, UsageError
from clipworks.model import Model
from clipworks.tasks.kept_texts import name_kept
from clipworks.text.prompts import SIMPLE_TEMPLATE, Labels, fill_templates

# Rises when the same texts get other numbers: 2, batches of up to 256 texts.
CLASSIFIER_FORMAT = 2
_FOLDER = "classifiers"
# Classifiers kept; the oldest go. One of 1,000 classes and 512 numbers has 2 MB.
_KEEP = 50
# Prompts embedded in one call: enough for texts of like length to meet in a batch, few enough to hold their rows.
_PROMPTS = 8192


class TextEmbedder(Protocol):
    """What is asked of a model to build a classifier."""

    card: Card  # the facts of the model

    def embed_texts(
        self, texts: Sequence[str], *, truncate: bool = False, report: Callable[[int, int], None] | None = None
    ) -> scoring.Floats:
        """Embed texts as float32 unit rows ``[n, dim]``; see `clipworks.model.Model.embed_texts`."""
        ...


def build_classifier(
    model: TextEmbedder,
    labels: Labels,
    templates: Sequence[str],
    *,
    truncate: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> scoring.Floats:
    """Embed every class name in every template and take the mean direction of each class.

    ``truncate`` cuts a prompt that is too long for the model; ``report`` is told how many prompts are done, and of how
    many.

    Returns:
        float32 unit rows ``[classes, dim]``; those of classes of one name are the same.

    Raises:
        UsageError: no label, or no template.
        TextError: a prompt is empty, or too long for the model and not to be cut.

    Source:
        OpenAI's CLIP, prompt engineering for ImageNet: unit embeddings, their mean, scaled to unit length.
    """
    if not labels or not templates:
        raise UsageError(f"{len(labels)} labels and {len(templates)} templates given; allowed: at least one of each")
    if model.card.family == "chinese-clip" and tuple(templates) == (SIMPLE_TEMPLATE,):
        warnings.warn(
            f"{model.card.name} reads Chinese, and the template {SIMPLE_TEMPLATE!r} is English: simple-zh and "
            "cn-clip-183 are Chinese templates",
            ClipworksWarning,
            stacklevel=2,
        )
    # Each different name once: equal names must get equal rows to the last bit, or they would not tie.
    places = {name: place for place, name in enumerate(dict.fromkeys(labels.names))}
    names = list(places)
    sums = np.zeros((len(names), model.card.dim))
    at_once, total = max(1, _PROMPTS // len(names)), len(templates) * len(names)
    for start in range(0, len(templates), at_once):
        part = templates[start : start + at_once]
        tell = None if report is None else functools.partial(_report_from, start * len(names), total, report)
        rows = model.embed_texts(fill_templates(names, part), truncate=truncate, report=tell)
        sums += rows.reshape(len(part), len(names), -1).sum(axis=0, dtype=np.float64)
    return scoring.normalise(sums)[[places[name] for name in labels.names]]


def _report_from(before: int, total: int, report: Callable[[int, int], None], done: int, _: int) -> None:
    report(before + done, total)


@dataclass(frozen=True, kw_only=True)
class FoldedClassifier:
    """A classifier with equal rows stored once, so that classes of one name get equal scores to the last bit."""

    rows: scoring.Floats  # float32 unit rows ``[distinct, dim]``
    # ``[classes]``: each class's row; None where every class has its own, in order
    indices: npt.NDArray[np.intp] | None

    def compare(self, images: scoring.Floats) -> scoring.Floats:
        """Cosines float32 ``[images, classes]`` of unit rows ``[images, dim]`` with every class."""
        cosines = scoring.compare(images, self.rows)
        return cosines if self.indices is None else cosines[:, self.indices]

    def rank(
        self, images: scoring.Floats, rule: ScoreRule, top: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """The best classes ``[images, top]`` of unit rows, best first, and the scores of all ``[images, classes]``."""
        cosines = self.compare(images)
        return scoring.rank(cosines, top), scoring.score(cosines, rule)


def fold_classifier(classifier: scoring.Floats) -> FoldedClassifier:
    """Store equal rows of a classifier once."""
    places: dict[bytes, int] = {}
    folded = [places.setdefault(row.tobytes(), len(places)) for row in classifier]
    if len(places) == len(classifier):
        return FoldedClassifier(rows=classifier, indices=None)
    _, first = np.unique(folded, return_index=True)
    return FoldedClassifier(rows=classifier[first], indices=np.array(folded))


def find_classifier(
    model: Model, labels: Labels, templates: Sequence[str], *, truncate: bool = False
) -> scoring.Floats | None:
    """The classifier of an earlier run with the same model, runtime, version, device, precision and texts, or None."""
    cache = find_cache()
    body = (
        None if cache is None else read_checked(cache / _FOLDER / _name_classifier(model, labels, templates, truncate))
    )
    return None if body is None else np.load(io.BytesIO(body), allow_pickle=False)


def keep_classifier(
    model: Model, labels: Labels, templates: Sequence[str], classifier: scoring.Floats, *, truncate: bool = False
) -> None:
    """Keep a classifier for `find_classifier`; where nothing can be written, do nothing."""
    folder = open_folder(_FOLDER)
    if folder is None:
        return
    stream = io.BytesIO()
    np.save(stream, classifier, allow_pickle=False)
    write_checked(folder / _name_classifier(model, labels, templates, truncate), stream.getvalue(), keep=_KEEP)


def hash_classifier(classifier: scoring.Floats) -> str:
    """The SHA-256 (hex) of a classifier's numbers."""
    return hashlib.sha256(np.ascontiguousarray(classifier, dtype="<f4").tobytes()).hexdigest()


def _name_classifier(model: Model, labels: Labels, templates: Sequence[str], truncate: bool) -> str:  # noqa: FBT001  # a part of the name
    texts = (labels.names, list(templates), *(["cut"] if truncate else []))  # else a long prompt is an error each time
    return f"{name_kept(model, CLASSIFIER_FORMAT, *texts)}.classifier"
