"""Text heads: the matrix of class embeddings that labels and templates make together, kept for the next run."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from clipworks import scoring
from clipworks.bundle.files import card_hash
from clipworks.cache import find_cache, open_folder, read_sealed, write_sealed
from clipworks.errors import UsageError
from clipworks.runtimes import find_version
from clipworks.text.prompts import Labels, fill_templates

if TYPE_CHECKING:
    from clipworks.model import Model

# Rises when the same texts get other numbers: 2, batches of up to 256 texts.
HEAD_FORMAT = 2
_FOLDER = "heads"
# Heads kept; the oldest go. One of 1,000 classes and 512 numbers has 2 MB.
_KEEP = 50
# Prompts embedded in one call: enough for texts of like length to meet in a batch, few enough to hold their rows.
_PROMPTS = 8192


def build_head(
    model: Model,
    labels: Labels,
    templates: Sequence[str],
    *,
    report: Callable[[int, int], None] | None = None,
) -> scoring.Floats:
    """Embed every label in every template and take the mean direction of each label.

    Args:
        model: with its text tower.
        labels: at least one; classes of one name get the same row.
        templates: at least one, each with ``{}`` once.
        report: told how many prompts are done, and of how many; or None.

    Returns:
        float32 unit rows ``[classes, dim]``.

    Raises:
        TextError: a prompt is empty or too long for the model.

    Source:
        OpenAI's CLIP, prompt engineering for ImageNet: unit embeddings, their mean, scaled to unit length.
    """
    if not labels or not templates:
        raise UsageError(f"{len(labels)} labels and {len(templates)} templates given; allowed: at least one of each")
    # Each different name once: equal names must get equal rows to the last bit, or they would not tie.
    places = {name: place for place, name in enumerate(dict.fromkeys(labels.names))}
    names = list(places)
    sums = np.zeros((len(names), model.card.dim))
    at_once = max(1, _PROMPTS // len(names))
    for start in range(0, len(templates), at_once):
        part = templates[start : start + at_once]
        rows = model.embed_texts(fill_templates(names, part))
        sums += rows.reshape(len(part), len(names), -1).sum(axis=0, dtype=np.float64)
        if report is not None:
            report(min(start + at_once, len(templates)) * len(names), len(templates) * len(names))
    return scoring.normalise(sums)[[places[name] for name in labels.names]]


@dataclass(frozen=True, kw_only=True)
class FoldedHead:
    """A head with equal rows stored once, so that classes of one name get equal scores to the last bit.

    Attributes:
        rows: float32 unit rows ``[distinct, dim]``.
        places: ``[classes]``: each class's row; None where every class has its own, in order.
    """

    rows: scoring.Floats
    places: npt.NDArray[np.intp] | None

    def compare(self, images: scoring.Floats) -> scoring.Floats:
        """Cosines float32 ``[images, classes]`` of unit rows ``[images, dim]`` with every class."""
        cosines = scoring.compare(images, self.rows)
        return cosines if self.places is None else cosines[:, self.places]


def fold_head(head: scoring.Floats) -> FoldedHead:
    """Store equal rows of a head once."""
    places: dict[bytes, int] = {}
    folded = [places.setdefault(row.tobytes(), len(places)) for row in head]
    if len(places) == len(head):
        return FoldedHead(rows=head, places=None)
    _, first = np.unique(folded, return_index=True)
    return FoldedHead(rows=head[first], places=np.array(folded, dtype=np.intp))


def find_head(model: Model, labels: Labels, templates: Sequence[str]) -> scoring.Floats | None:
    """The head of an earlier run with the same model, engine and its version, device, precision and texts, or None."""
    cache = find_cache()
    body = None if cache is None else read_sealed(cache / _FOLDER / _name_head(model, labels, templates))
    return None if body is None else np.load(io.BytesIO(body), allow_pickle=False)


def keep_head(model: Model, labels: Labels, templates: Sequence[str], head: scoring.Floats) -> None:
    """Keep a head for `find_head`; where nothing can be written, do nothing."""
    folder = open_folder(_FOLDER)
    if folder is None:
        return
    stream = io.BytesIO()
    np.save(stream, head, allow_pickle=False)
    write_sealed(folder / _name_head(model, labels, templates), stream.getvalue(), keep=_KEEP)


def hash_head(head: scoring.Floats) -> str:
    """The SHA-256 (hex) of a head's numbers."""
    return hashlib.sha256(np.ascontiguousarray(head, dtype="<f4").tobytes()).hexdigest()


def _name_head(model: Model, labels: Labels, templates: Sequence[str]) -> str:
    # Another version of the engine may compute other last digits, or with a fault mended, other first ones.
    engine = (model.runtime, find_version(model.runtime), model.device, model.precision)
    key = json.dumps([HEAD_FORMAT, card_hash(model.card), *engine, labels.names, list(templates)])
    return f"{hashlib.sha256(key.encode()).hexdigest()}.head"
