"""What is in one evaluated file: classes, confusions and the worst images, with their thumbnails."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from clipworks.errors import ImageError
from clipworks.evaluation.evaluation import ClassResult, Evaluation
from clipworks.report.document import Axis, Document, Gallery, Plot, Section, Series, Thumbnail, list_facts
from clipworks.report.phrases import say_count, say_share
from clipworks.report.tables import Table, tabulate

_CLASSES = 20
_CONFUSIONS = 15
_WORST = 20
_BINS = 10
_SIDE = 128
_QUALITY = 60
FindImage = Callable[[str], bytes | None]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A file with its evaluation; that is over no image where none's class is known."""

    name: str
    evaluation: Evaluation
    settings: dict[str, Any] = field(default_factory=dict)  # of the run that wrote it, or empty
    total: int | None = None  # images of the whole run where the file holds fewer, else None
    find_image: FindImage | None = None  # brings a path's thumbnail, or None for none


def show_evaluation(found: Evaluation, *, most: int) -> Document:
    """One evaluation by itself: accuracy, then ``most`` of the hardest classes, confusions and worst images each."""
    how = "counted as wrong" if found.errors_as == "wrong" else "left out"
    mean, ece = found.mean_class_accuracy, found.calibration.ece
    facts = {
        "images": f"{found.images:,}, {found.evaluated:,} evaluated"
        + (f"; {found.errors:,} could not be read: {how}" if found.errors else "")
        + (f"; {found.without_truth:,} left out: nothing tells their class" if found.without_truth else ""),
        "truth from": _say_origins(found),
        **{
            f"top-{one.k}": f"{one.share:.2%} ({one.low:.2%} to {one.high:.2%} at 95%), "
            f"{one.correct:,} of {one.count:,}"
            for one in found.accuracy
        },
        "mean of classes": "" if mean is None else f"{mean:.2%} over {len(found.classes):,} classes",
        "calibration error": "" if ece is None else f"{ece:.4f} (ECE, 15 bins)",
    }
    lists = (tabulate_classes(found, most), tabulate_confusions(found, most), tabulate_worst(found, most))
    return Document(title="Evaluation", sections=(Section(items=(list_facts(facts), *lists)),))


def report_classes(item: Evaluated, thumbnails: int) -> Section:
    """Show what is in one file, and so many of its worst images at most."""
    found = item.evaluation
    median = float(np.median([one.count for one in found.classes]))
    text = [f"{say_count(found.images, 'image')}, {found.evaluated:,} evaluated; truth from: {_say_origins(found)}."]
    if few := median < _BINS:
        said = f"The median class has {say_count(int(median), 'image')}"
        text.append(f"{said}: what is said of one class is an example, not a rate.")
    return Section(
        title=f"Classes and images: {item.name}",
        text=tuple(text),
        items=(
            *([_plot_classes(found)] if len(found.classes) > 1 and not few else []),
            tabulate_classes(found, _CLASSES),
            tabulate_confusions(found, _CONFUSIONS),
            *([_show_worst(item.find_image, found, thumbnails)] if item.find_image and found.worst else []),
            tabulate_worst(found, _WORST),
        ),
    )


def _say_origins(found: Evaluation) -> str:
    """Where the known classes are from, and how often."""
    return ", ".join(f"{name} ({count:,})" for name, count in found.truth_from.items())


def _plot_classes(found: Evaluation) -> Plot:
    shares = np.array([one.correct[0] / one.count for one in found.classes if one.count])
    heights, edges = np.histogram(shares, _BINS, (0, 1))
    series = Series(label="classes", xs=tuple(edges.tolist()), ys=tuple(map(float, heights)), mark="outline")
    return Plot(
        title="How accuracy spreads over the classes",
        summary=f"{say_count(len(shares), 'class', 'classes')}: the worst has {say_share(float(shares.min()))}, "
        f"the median {say_share(float(np.median(shares)))}, the best {say_share(float(shares.max()))}",
        x=Axis(label=f"top-{found.accuracy[0].k} accuracy of a class", percent=True, low=0, high=1),
        y=Axis(label="classes", low=0),
        series=(series,),
    )


def tabulate_classes(found: Evaluation, most: int) -> Table:
    """The classes that are most often wrong."""

    def share(one: ClassResult) -> float:
        return one.correct[0] / one.count

    wrong = [one for one in found.classes if one.correct[0] < one.count]
    return tabulate(
        f"Hardest classes (top-{found.accuracy[0].k})",
        sorted(wrong, key=lambda one: (share(one), -one.count, one.id)),
        (
            ("class", lambda one: one.name or ""),
            ("id", lambda one: str(one.id)),
            ("images", lambda one: f"{one.count:,}"),
            ("right", lambda one: f"{one.correct[0]:,}"),
            ("unreadable", lambda one: f"{one.errors:,}"),
            ("times predicted", lambda one: f"{one.predicted:,}"),
            ("share right", lambda one: say_share(share(one))),
        ),
        bars=("of its images", lambda one: (share(one),)),
        most=most,
        notes=(
            f"{len(wrong):,} of {len(found.classes):,} classes have an image that is wrong; the lowest share first, "
            "of equal ones those with more images first.",
        ),
    )


def tabulate_confusions(found: Evaluation, most: int) -> Table:
    """The pairs of classes that are most often confused."""
    highest = max((one.count for one in found.confusions), default=1)
    return tabulate(
        "Most confused pairs",
        found.confusions,
        (
            ("is", lambda one: one.truth_name or ""),
            ("id", lambda one: str(one.truth)),
            ("taken for", lambda one: one.predicted_name or ""),
            ("id", lambda one: str(one.predicted)),
            ("images", lambda one: f"{one.count:,}"),
        ),
        bars=("of the most", lambda one: (one.count / highest,)),
        most=most,
    )


def tabulate_worst(found: Evaluation, most: int) -> Table:
    """The wrong images that the model was surest of."""
    return tabulate(
        "Wrong with the highest score",
        found.worst,
        (
            ("image", lambda one: one.path),
            ("is", lambda one: one.truth_name or str(one.truth)),
            ("taken for", lambda one: one.predicted_name or str(one.predicted)),
            ("score", lambda one: f"{one.score:.4f}"),
            ("score of its class", lambda one: f"{one.truth_score:.4f}" if one.truth_score is not None else "not kept"),
        ),
        spare=("score of its class",),
        most=most,
        notes=("Often the label is at fault: look before the model is blamed.",),
    )


def _show_worst(find_image: FindImage, found: Evaluation, most: int) -> Gallery:
    worst, images = found.worst[:most], []
    for one in worst:
        jpeg = find_image(one.path)
        if jpeg is not None:
            says = f"taken for {one.predicted_name or one.predicted}, {one.score:.3f}"
            images.append(Thumbnail(jpeg=jpeg, path=one.path, lines=(f"is {one.truth_name or one.truth}", says)))
    missing = len(worst) - len(images)
    notes = (f"{missing:,} of {len(worst):,} images were not found or cannot be read.",) if missing else ()
    return Gallery(title="The worst images", images=tuple(images), notes=notes)


def find_thumbnail(path: str, root: str | None, recorded_root: str | None) -> bytes | None:
    """A recorded path's thumbnail as JPEG bytes; None for an image that is not there or unreadable.

    It is looked for where the run found it, whose list was relative to ``recorded_root``; or below ``root``, by the
    path as recorded, then by ever shorter ends of it, so that a data set that has moved is found too.
    """
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    ends = [parts[first:] for first in range(len(parts))]
    for place in [Path(recorded_root or "", path)] if root is None else [Path(root, *end) for end in ends]:
        try:
            if place.is_file():
                return _make_thumbnail(place)
        except (OSError, ValueError, ImageError):  # a name that no file can have, or no image
            continue
    return None


def _make_thumbnail(path: Path) -> bytes:
    """An image as a JPEG of at most 128 x 128 pixels, without any of its metadata."""
    from clipworks.images.decode import load_image
    from clipworks.options import ImageOptions

    image = load_image(path, options=ImageOptions(alpha="white"))  # as a person sees it
    image.thumbnail((_SIDE, _SIDE))
    image.info.clear()
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return stream.getvalue()
