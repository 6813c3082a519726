"""What is in one evaluated file: classes, confusions and the worst images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipworks.evaluation.evaluation import Evaluation
from clipworks.report.document import Axis, Column, Gallery, Plot, Section, Series, Table, Thumbnail
from clipworks.report.figures import cut_rows, keep_telling_bars, say_count, say_share
from clipworks.report.thumbnails import FindImage

_CLASSES = 20
_CONFUSIONS = 15
_WORST = 20
_BINS = 10


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A file with its evaluation.

    Attributes:
        name: the file.
        evaluation: None where no image's class is known.
        settings: of the run that wrote it, or empty.
        images: records in the file.
        errors: those of images that could not be read.
        total: images of the whole run where the file holds fewer, else None.
        find_image: brings a path's thumbnail, or None for none.
    """

    name: str
    evaluation: Evaluation | None
    settings: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    errors: int = 0
    total: int | None = None
    find_image: FindImage | None = None


def report_classes(item: Evaluated, found: Evaluation, thumbnails: int) -> Section:
    """Show what is in one file.

    Args:
        item: the file.
        found: its evaluation.
        thumbnails: images shown at most.
    """
    items: list[Table | Plot | Gallery] = []
    counts = np.array([one.count for one in found.classes])
    if len(found.classes) > 1 and float(np.median(counts)) >= _BINS:
        items.append(_plot_classes(found))
    items += [_tabulate_classes(found), _tabulate_confusions(found)]
    if found.worst:
        shown = found.worst[: min(thumbnails, _WORST)]
        if item.find_image is not None and shown:
            items.append(_show_worst(item, found, thumbnails))
        items.append(_tabulate_worst(found))
    origins = ", ".join(f"{name} ({count:,})" for name, count in found.truth_from.items())
    text = [f"{say_count(found.images, 'image')}, {found.evaluated:,} evaluated; truth from: {origins}."]
    if float(np.median(counts)) < _BINS:
        text.append(
            f"The median class has {say_count(int(np.median(counts)), 'image')}: "
            "what is said of one class is an example, not a rate."
        )
    return Section(
        title=f"Classes and images: {item.name}",
        text=tuple(text),
        items=tuple(one for one in items if not isinstance(one, Table) or one.rows),
    )


def _plot_classes(found: Evaluation) -> Plot:
    shares = np.array([one.correct[0] / one.count for one in found.classes if one.count])
    edges = np.linspace(0, 1, _BINS + 1)
    heights = np.histogram(shares, edges)[0]
    k = found.accuracy[0].k
    return Plot(
        title="How accuracy spreads over the classes",
        summary=f"{say_count(len(shares), 'class', 'classes')}: the worst has {say_share(float(shares.min()))}, "
        f"the median {say_share(float(np.median(shares)))}, the best {say_share(float(shares.max()))}",
        x=Axis(label=f"top-{k} accuracy of a class", percent=True, low=0, high=1),
        y=Axis(label="classes", low=0),
        series=(
            Series(label="classes", xs=tuple(edges.tolist()), ys=tuple(map(float, heights.tolist())), mark="outline"),
        ),
    )


def _tabulate_classes(found: Evaluation) -> Table:
    wrong = [one for one in found.classes if one.correct[0] < one.count]
    hardest = sorted(wrong, key=lambda one: (one.correct[0] / one.count, -one.count, one.id))
    table = Table(
        title=f"Hardest classes (top-{found.accuracy[0].k})",
        columns=(
            Column(name="class"),
            Column(name="id", numeric=True),
            Column(name="images", numeric=True),
            Column(name="right", numeric=True),
            Column(name="unreadable", numeric=True),
            Column(name="times predicted", numeric=True),
            Column(name="share right", numeric=True),
            Column(name="of its images"),
        ),
        rows=tuple(
            (
                one.name or "",
                str(one.id),
                f"{one.count:,}",
                f"{one.correct[0]:,}",
                f"{one.errors:,}",
                f"{one.predicted:,}",
                say_share(one.correct[0] / one.count),
                "",
            )
            for one in hardest
        ),
        bars=tuple((one.correct[0] / one.count,) for one in hardest),
        notes=(
            f"{len(wrong):,} of {len(found.classes):,} classes have an image that is wrong; the lowest share first, "
            "of equal ones those with more images first.",
        ),
    )
    return keep_telling_bars(cut_rows(table, _CLASSES))


def _tabulate_confusions(found: Evaluation) -> Table:
    most = max((one.count for one in found.confusions), default=1)
    table = Table(
        title="Most confused pairs",
        columns=(
            Column(name="is"),
            Column(name="id", numeric=True),
            Column(name="taken for"),
            Column(name="id", numeric=True),
            Column(name="images", numeric=True),
            Column(name="of the most"),
        ),
        rows=tuple(
            (
                one.truth_name or "",
                str(one.truth),
                one.predicted_name or "",
                str(one.predicted),
                f"{one.count:,}",
                "",
            )
            for one in found.confusions
        ),
        bars=tuple((one.count / most,) for one in found.confusions),
    )
    return keep_telling_bars(cut_rows(table, _CONFUSIONS))


def _tabulate_worst(found: Evaluation) -> Table:
    table = Table(
        title="Wrong with the highest score",
        columns=(
            Column(name="image"),
            Column(name="is"),
            Column(name="taken for"),
            Column(name="score", numeric=True),
            Column(name="score of its class", numeric=True),
        ),
        rows=tuple(
            (
                one.path,
                one.truth_name or str(one.truth),
                one.predicted_name or str(one.predicted),
                f"{one.score:.4f}",
                "not kept" if one.truth_score is None else f"{one.truth_score:.4f}",
            )
            for one in found.worst
        ),
        notes=("Often the label is at fault: look before the model is blamed.",),
    )
    return cut_rows(table, _WORST)


def _show_worst(item: Evaluated, found: Evaluation, most: int) -> Gallery:
    images = tuple(
        Thumbnail(
            jpeg=item.find_image(one.path) if item.find_image else None,
            lines=(
                one.path,
                f"is {one.truth_name or one.truth}",
                f"taken for {one.predicted_name or one.predicted}, {one.score:.3f}",
            ),
        )
        for one in found.worst[:most]
    )
    missing = sum(image.jpeg is None for image in images)
    shown = tuple(image for image in images if image.jpeg is not None)
    notes = (f"{missing:,} of {len(images):,} images were not found or cannot be read.",) if missing else ()
    return Gallery(title="The worst images", images=shown, notes=notes)
