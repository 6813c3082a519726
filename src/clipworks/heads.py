"""Text heads: the matrix of class embeddings that labels and templates make together, kept for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipworks import scoring
from clipworks.bundle import card_hash
from clipworks.caches import cache_folder
from clipworks.errors import UsageError
from clipworks.journal import write_atomically
from clipworks.prompts import Labels, fill_templates

if TYPE_CHECKING:
    from clipworks.model import Model

HEAD_FORMAT = 1
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


def find_head(model: Model, labels: Labels, templates: Sequence[str]) -> scoring.Floats | None:
    """The head of an earlier run with the same model, runtime, device, precision, labels and templates, or None."""
    try:
        head = np.load(_head_path(model, labels, templates), allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged: it can be made again
        return None
    whole = head.shape == (len(labels), model.card.dim) and head.dtype == np.float32
    return head if whole else None


def keep_head(model: Model, labels: Labels, templates: Sequence[str], head: scoring.Floats) -> None:
    """Keep a head for `find_head`; where nothing can be written, do nothing."""
    path = _head_path(model, labels, templates)
    stream = io.BytesIO()
    np.save(stream, head, allow_pickle=False)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(str(path), stream.getvalue())


def hash_head(head: scoring.Floats) -> str:
    """The SHA-256 (hex) of a head's numbers."""
    return hashlib.sha256(np.ascontiguousarray(head, dtype="<f4").tobytes()).hexdigest()


def _head_path(model: Model, labels: Labels, templates: Sequence[str]) -> Path:
    granted = (model.runtime, model.device, model.precision)
    key = json.dumps([HEAD_FORMAT, card_hash(model.card), *granted, labels.names, list(templates)])
    return cache_folder() / "heads" / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"
