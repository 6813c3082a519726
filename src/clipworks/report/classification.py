"""Evaluations, of one file or several: accuracy with intervals, calibration, and what is in each file."""

from __future__ import annotations

from collections.abc import Sequence

from clipworks.evaluation.accuracy import wilson
from clipworks.report.classes import Evaluated, report_classes
from clipworks.report.document import Axis, Caution, Document, Guide, Headline, Item, Plot, Section, draw_points, warn
from clipworks.report.lineup import MOST_SERIES, say_left_out
from clipworks.report.phrases import say_accuracy, say_count, say_interval, say_number, say_share
from clipworks.report.tables import Table, tabulate

_MOST_FILES = 6
_UNREADABLE = {"wrong": "count as wrong", "skip": "are left out"}


def report_evaluations(found: Sequence[Evaluated], *, thumbnails: int) -> Document:
    """Show evaluations, at least one, side by side, then what is in each with some thumbnails."""
    measured = [item for item in found if item.evaluation.evaluated]
    headlines = tuple(
        Headline(
            label=f"Top-{first.k} accuracy",
            value=say_share(first.share),
            detail=f"{say_interval(first.low, first.high)} at 95%, {say_count(first.count, 'image')}; {item.name}",
        )
        for item in measured[:4]
        for first in item.evaluation.accuracy[:1]
    )
    sets = {item.settings.get("source_sha256") for item in found if item.settings.get("source_sha256")}
    differ = "The results files are over different images: do not compare them."
    items: tuple[Item, ...] = (
        _tabulate_files(found),
        *([_plot_accuracies(measured)] if len(measured) > 1 else []),
        *([_plot_calibration(measured)] if measured else []),
    )
    return Document(
        headlines=headlines,
        warnings=tuple(caution for item in found for caution in _doubt(item)) + warn("", (len(sets) > 1, differ)),
        sections=(
            Section(title="Accuracy", text=(_explain(measured),), items=items),
            *(report_classes(item, thumbnails) for item in measured[:_MOST_FILES]),
        ),
    )


def _doubt(item: Evaluated) -> tuple[Caution, ...]:
    own = item.evaluation
    how = "left out" if own.errors_as == "skip" else "counted as wrong"
    return warn(
        item.name,
        (item.total, f"Unfinished: {own.images:,} of the {item.total or 0:,} images of its run; of those only."),
        (own.errors, f"{say_count(own.errors, 'image')} could not be read: {how if own.evaluated else 'not counted'}."),
        (not own.evaluated, "No image's class is known: accuracy cannot be told."),
        (own.without_truth, f"{say_count(own.without_truth, 'image')} left out: nothing tells the class."),
    )


def _explain(measured: Sequence[Evaluated]) -> str:
    if not measured:
        return "Nothing tells the classes of these images, so nothing can be said of accuracy."
    counted = {item.evaluation.errors_as for item in measured if item.evaluation.errors}
    said = [f"Images that could not be read {how}." for name, how in _UNREADABLE.items() if name in counted]
    return " ".join(["Intervals are Wilson's, at 95%.", *said])


def _list_ks(found: Sequence[Evaluated]) -> list[int]:
    return sorted({one.k for item in found for one in item.evaluation.accuracy})


def _tabulate_files(found: Sequence[Evaluated]) -> Table:
    settings = ("model", "runtime", "device", "precision")
    return tabulate(
        "Accuracy",
        found,
        (
            ("file", lambda item: item.name),
            *((name, lambda item, name=name: str(item.settings.get(name, ""))) for name in settings),
            ("images", lambda item: f"{item.evaluation.images:,}"),
            ("evaluated", lambda item: f"{item.evaluation.evaluated:,}"),
            ("unreadable", lambda item: f"{item.evaluation.errors:,}"),
            *((f"top-{k} (95%)", lambda item, k=k: say_accuracy(item.evaluation.accuracy, k)) for k in _list_ks(found)),
            ("mean of classes", lambda item: say_share(item.evaluation.mean_class_accuracy)),
            (
                "calibration error",
                lambda item: say_number(item.evaluation.calibration.ece) if item.evaluation.evaluated else "",
            ),
        ),
        spare=("device", "unreadable", "evaluated", "model"),
        notes=("Calibration error (ECE): mean distance of score and accuracy over 15 ranges of the best score.",),
    )


def _plot_accuracies(measured: Sequence[Evaluated]) -> Plot:
    shown = dict(zip(_name_files(measured[:12]), measured, strict=False))
    ks, series = _list_ks(list(shown.values())), []
    for number, k in enumerate(ks):
        beside = 0.08 * (number - (len(ks) - 1) / 2)
        points = {
            name: (place + beside, one.share, one.low, one.high)
            for place, (name, item) in enumerate(shown.items(), 1)
            for one in item.evaluation.accuracy
            if one.k == k
        }
        tags = points if number == 0 else ()  # the others stand beside them
        series.append(draw_points(f"top-{k}", list(points.values()), mark="points", tags=tags))
    return Plot(
        title="Accuracy of each file, with 95% intervals",
        summary="; ".join(
            f"{name}: top-{one.k} {say_share(one.share)}"
            for name, item in shown.items()
            for one in item.evaluation.accuracy
        ),
        x=Axis(label="file, in the table's order", ticks=tuple(map(float, range(1, len(shown) + 1)))),
        y=Axis(label="accuracy", percent=True),
        series=tuple(series),
        notes=say_left_out(len(shown), len(measured)),
    )


def _name_files(found: Sequence[Evaluated]) -> list[str]:
    """Runtime and precision of each file where these tell them apart, else the files' own names."""
    used = [" ".join(str(item.settings.get(name, "")) for name in ("runtime", "precision")).strip() for item in found]
    return used if all(used) and len(set(used)) == len(used) else [item.name for item in found]


def _plot_calibration(measured: Sequence[Evaluated]) -> Plot:
    drawn = [(item.name, item.evaluation.calibration) for item in measured[:MOST_SERIES]]
    series = tuple(
        draw_points(
            name,
            [(one.confidence, one.accuracy, *wilson(round(one.accuracy * one.count), one.count)) for one in found.bins],
        )
        for name, found in drawn
        if found.bins
    )
    return Plot(
        title="Calibration: are scores probabilities?",
        summary="; ".join(f"{name}: calibration error {say_number(found.ece)}" for name, found in drawn),
        x=Axis(label="mean best score of the images in a range", percent=True, low=0, high=1),
        y=Axis(label="share of them that is right", percent=True, low=0, high=1),
        series=series,
        rules=(Guide(axis="diagonal", label="score = accuracy"),),
        notes=(
            "Above the line the model is better than it says, below it worse. Bars: 95% intervals.",
            *say_left_out(len(series), len(measured)),
        ),
    )
