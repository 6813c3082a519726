"""Evaluations where an image may have several classes."""

from __future__ import annotations

from clipworks.evaluation.evaluation import LabelSetEvaluation
from clipworks.report.document import Document, Section, list_facts
from clipworks.report.tables import tabulate


def show_label_sets(found: LabelSetEvaluation, *, most: int) -> Document:
    """One evaluation: hits, mean average precision, then ``most`` of the classes with the lowest."""
    how = "counted as wrong" if found.errors_as == "wrong" else "left out"
    mean = found.mean_average_precision
    images = (
        f"{found.images:,}, {found.labelled:,} with a class, {found.labels / found.labelled:.2f} each",
        f"{found.unlabelled:,} with none" if found.unlabelled else "",
        f"{found.errors:,} could not be read: {how}" if found.errors else "",
        f"{found.without_truth:,} left out: nothing tells their classes" if found.without_truth else "",
    )
    facts = {
        "images": "; ".join(part for part in images if part),
        **{
            f"hit@{one.k}": f"{one.share:.2%} ({one.low:.2%} to {one.high:.2%} at 95%), "
            f"{one.correct:,} of {one.count:,}"
            for one in found.hits
        },
        "mAP": f"not known: {found.missing_scores:,} images have no score of every class; classify with --top"
        if mean is None
        else f"{mean:.2%} over {len(found.classes):,} classes",
    }
    classes = tabulate(
        "Hardest classes",
        sorted(found.classes, key=lambda one: (one.average_precision, -one.count, one.id)),
        (
            ("class", lambda one: one.name or ""),
            ("id", lambda one: str(one.id)),
            ("images", lambda one: f"{one.count:,}"),
            ("average precision", lambda one: f"{one.average_precision:.2%}"),
        ),
        bars=("of 1", lambda one: (one.average_precision,)),
        most=most,
    )
    return Document(
        title="Evaluation of several classes an image", sections=(Section(items=(list_facts(facts), classes)),)
    )
