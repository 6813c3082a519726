"""``POST /v1/classify``: images by class names, with templates, the best k and a threshold."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from clipworks.scoring import Floats
from clipworks.serve.batching import EmbeddedItem
from clipworks.serve.classifiers import ServedClassifiers
from clipworks.serve.embeddings import require_any, write_failure, write_usage
from clipworks.serve.items import Item, read_item
from clipworks.serve.limits import Limits, refuse
from clipworks.serve.preparing import Failure
from clipworks.serve.served_model import ServedModel
from clipworks.serve.times import Times
from clipworks.tasks.zero_shot import FoldedClassifier
from clipworks.text.prompts import LABEL_SETS, SIMPLE_TEMPLATE, TEMPLATE_SETS, Labels, read_labels, read_templates

_MOST_LABELS, _MOST_TEMPLATES, _MOST_PROMPTS = 10_000, 200, 100_000
_MOST_RANKED = 100_000
# Scores up to which a thread would cost more than to rank them.
_FEW = 1000


async def answer_classify(
    model: ServedModel, classifiers: ServedClassifiers, body: Mapping[str, Any], times: Times
) -> dict[str, Any]:
    """Classify the images of a request.

    Returns:
        The response: for each image its classes, best first, or why there are none.

    Raises:
        RequestError: the request does not go, or none of its images can be read.
    """
    labels, templates = _read_labels(body), _read_templates(body)
    if len(labels) * len(templates) > _MOST_PROMPTS:
        said = f"{len(labels)} labels in {len(templates)} templates are {len(labels) * len(templates):,} prompts"
        raise refuse("labels", f"{said}; allowed: {_MOST_PROMPTS:,}")
    top = body.get("top_k", 5)
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise refuse("top_k", f"top_k is {str(top)[:60]!r}; allowed: a whole number from 1 on")
    threshold = body.get("threshold", 0.0)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise refuse("threshold", f"threshold is {str(threshold)[:60]!r}; allowed: a number from 0 to 1")
    items = _list_images(body, model.limits)
    if (entries := min(top, len(labels)) * len(items)) > _MOST_RANKED:
        said = f"top_k is {top:,}, of {len(items)} images: {entries:,} classes in one answer"
        raise refuse("top_k", f"{said}; allowed: {_MOST_RANKED:,}")
    classifier, cached = await classifiers.find(model, labels, templates)
    embedded = await model.embed(items, times)
    require_any(embedded)

    def rank() -> list[dict[str, Any]]:
        return [
            {"object": "classification", "index": place}
            | (
                {"classes": None, "error": write_failure(one)}
                if isinstance(one, Failure)
                else {"classes": _rank(model, classifier, labels, one, top, threshold)}
            )
            for place, one in enumerate(embedded)
        ]

    return {
        "object": "list",
        "model": model.name,
        "score_kind": model.card.score.kind,
        "classes": len(labels),
        "templates": len(templates),
        "classifier_cached": cached,
        "data": await asyncio.to_thread(rank) if len(items) * len(labels) > _FEW else rank(),
        "usage": write_usage(times),
    }


def _rank(
    model: ServedModel, classifier: FoldedClassifier, labels: Labels, one: EmbeddedItem, top: int, threshold: float
) -> list[dict[str, Any]]:
    row: Floats = one.row[None]
    order, scores = classifier.rank(row, model.card.score, top)
    cosines = classifier.compare(row)[0]
    return [
        {"index": int(index), "label": labels.names[index]}
        | ({"id": labels.ids[index]} if labels.ids else {})
        | {"score": float(scores[0, index]), "cosine": float(cosines[index])}
        for index in order[0]
        if scores[0, index] >= threshold
    ]


def _list_images(body: Mapping[str, Any], limits: Limits) -> list[Item]:
    names = [name for name in ("image", "images", "input") if body.get(name) is not None]
    if len(names) != 1:
        given = " and ".join(names) or "none of them"
        raise refuse("image", f"the request has {given}; allowed: one of image, images, input")
    given = body[names[0]]
    entries = given if isinstance(given, list) else [given]
    if not entries:
        raise refuse(names[0], f"{names[0]} holds no image; allowed: one or more")
    limits.check_items(len(entries))
    return [
        read_item(entry, names[0] if entries is not given else f"{names[0]}[{place}]", "image")
        for place, entry in enumerate(entries)
    ]


def _read_labels(body: Mapping[str, Any]) -> Labels:
    given = body.get("labels")
    if isinstance(given, str) and given in LABEL_SETS:  # never a file of the server's
        return read_labels(given)
    if isinstance(given, list) and len(given) == 1 and str(given[0]) in LABEL_SETS:  # as a form gives it
        return read_labels(given[0])
    names = _read_texts("labels", given, _MOST_LABELS, "a list of class names, or " + ", ".join(LABEL_SETS))
    return Labels(name="request", names=tuple(unicodedata.normalize("NFC", name) for name in names))


def _read_templates(body: Mapping[str, Any]) -> tuple[str, ...]:
    given = body.get("templates")
    if given is None:
        return (SIMPLE_TEMPLATE,)
    if isinstance(given, list) and len(given) == 1 and str(given[0]) in TEMPLATE_SETS:
        given = given[0]
    if isinstance(given, str) and given in TEMPLATE_SETS:
        return read_templates(given)
    allowed = "a list of templates, each with {} once, or " + ", ".join(TEMPLATE_SETS)
    templates = _read_texts("templates", given, _MOST_TEMPLATES, allowed)
    for template in templates:
        if template.count("{}") != 1:
            raise refuse("templates", f"the template {template[:60]!r} holds {{}} not once; allowed: {allowed}")
    return tuple(templates)


def _read_texts(field: str, given: Any, most: int, allowed: str) -> Sequence[str]:
    if not isinstance(given, list) or not given or len(given) > most:
        what = f"has {len(given)} entries" if isinstance(given, list) else f"is {str(given)[:60]!r}"
        raise refuse(field, f"{field} {what}; allowed: {allowed}; 1 to {most:,} of them")
    for place, text in enumerate(given):
        if not isinstance(text, str) or not text.strip():
            raise refuse(field, f"{field}[{place}] is {str(text)[:60]!r}; allowed: a text")
    return given
