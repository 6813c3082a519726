"""Evaluations in a report: accuracy with intervals, calibration, classes, confusions and the worst images."""

from __future__ import annotations

from collections.abc import Sequence

from clipworks.evaluation.accuracy import wilson
from clipworks.evaluation.evaluation import Bin, Evaluation
from clipworks.report.classes import Evaluated, report_classes
from clipworks.report.document import Axis, Column, Gallery, Headline, Part, Plot, Rule, Section, Series, Table
from clipworks.report.figures import cut_rows, drop_empty, say_count, say_interval, say_number, say_share
from clipworks.report.latencies import MOST_SERIES, say_left_out

_MOST_FILES = 6


def report_evaluations(found: Sequence[Evaluated], *, thumbnails: int) -> Part:
    """Show evaluations side by side, then what is in each.

    Args:
        found: at least one.
        thumbnails: images shown of each file.
    """
    measured = [(item, item.evaluation) for item in found if item.evaluation is not None]
    tables = [_tabulate_files(found)]
    items: list[Table | Plot | Gallery] = list(tables)
    if measured:
        items.append(_plot_calibration(measured))
        if len(measured) > 1:
            items.insert(1, _plot_accuracies(measured))
    sections = [Section(title="Accuracy", text=_explain(measured), items=tuple(items))]
    for item, evaluation in measured[:_MOST_FILES]:
        sections.append(report_classes(item, evaluation, thumbnails))
    headlines = tuple(
        Headline(
            label=f"Top-{first.k} accuracy",
            value=say_share(first.share),
            detail=f"{say_interval(first.low, first.high)} at 95%, {say_count(first.count, 'image')}; {item.name}",
        )
        for item, evaluation in measured[:4]
        for first in evaluation.accuracy[:1]
    )
    return Part(headlines=headlines, sections=tuple(sections))


def _explain(measured: Sequence[tuple[Evaluated, Evaluation]]) -> tuple[str, ...]:
    if not measured:
        return ("Nothing tells the classes of these images, so nothing can be said of accuracy.",)
    counted = {evaluation.errors_as for _, evaluation in measured if evaluation.errors}
    said = ["Intervals are Wilson's, at 95%."]
    if "wrong" in counted:
        said.append("Images that could not be read count as wrong.")
    if "skip" in counted:
        said.append("Images that could not be read are left out.")
    return (" ".join(said),)


def _tabulate_files(found: Sequence[Evaluated]) -> Table:
    ks = sorted({one.k for item in found if item.evaluation for one in item.evaluation.accuracy})
    rows = []
    for item in found:
        own = item.evaluation
        measures = {one.k: one for one in own.accuracy} if own else {}
        cells = [
            item.name,
            *(str(item.settings.get(name, "")) for name in ("model", "runtime", "device", "precision")),
            f"{item.images:,}",
            f"{own.evaluated:,}" if own else "0",
            f"{item.errors:,}",
        ]
        for k in ks:
            one = measures.get(k)
            cells.append("" if one is None else f"{say_share(one.share)} ({say_interval(one.low, one.high)})")
        mean = own.mean_class_accuracy if own else None
        ece = own.calibration.ece if own else None
        cells += ["" if mean is None else say_share(mean), say_number(ece, 3)]
        rows.append(tuple(cells))
    columns = [Column(name=name) for name in ("file", "model", "runtime", "device", "precision")]
    columns += [Column(name=name, numeric=True) for name in ("images", "evaluated", "unreadable")]
    columns += [Column(name=f"top-{k} (95%)", numeric=True) for k in ks]
    columns += [Column(name="mean of classes", numeric=True), Column(name="calibration error", numeric=True)]
    return cut_rows(
        drop_empty(
            Table(
                title="Accuracy",
                columns=tuple(columns),
                rows=tuple(rows),
                notes=(
                    "Calibration error (ECE): mean distance of score and accuracy over 15 ranges of the best score.",
                ),
            )
        )
    )


def _plot_accuracies(measured: Sequence[tuple[Evaluated, Evaluation]]) -> Plot:
    shown = [evaluation for _, evaluation in measured[:12]]
    ks = sorted({one.k for evaluation in shown for one in evaluation.accuracy})
    series = []
    for k in ks:
        points = [
            (place, one) for place, evaluation in enumerate(shown, 1) for one in evaluation.accuracy if one.k == k
        ]
        series.append(
            Series(
                label=f"top-{k}",
                xs=tuple(place + 0.08 * (ks.index(k) - (len(ks) - 1) / 2) for place, _ in points),
                ys=tuple(one.share for _, one in points),
                low=tuple(one.low for _, one in points),
                high=tuple(one.high for _, one in points),
                mark="points",
            )
        )
    return Plot(
        title="Accuracy of each file, with 95% intervals",
        summary="; ".join(
            f"file {place}: top-{one.k} {say_share(one.share)}"
            for place, evaluation in enumerate(shown, 1)
            for one in evaluation.accuracy
        ),
        x=Axis(label="file, in the table's order", ticks=tuple(map(float, range(1, len(shown) + 1)))),
        y=Axis(label="accuracy", percent=True),
        series=tuple(series),
        notes=say_left_out(len(shown), len(measured)),
    )


def _plot_calibration(measured: Sequence[tuple[Evaluated, Evaluation]]) -> Plot:
    series = tuple(
        Series(
            label=item.name,
            xs=tuple(one.confidence for one in evaluation.calibration.bins),
            ys=tuple(one.accuracy for one in evaluation.calibration.bins),
            low=tuple(_bounds(one)[0] for one in evaluation.calibration.bins),
            high=tuple(_bounds(one)[1] for one in evaluation.calibration.bins),
        )
        for item, evaluation in measured[:MOST_SERIES]
        if evaluation.calibration.bins
    )
    return Plot(
        title="Calibration: are scores probabilities?",
        summary="; ".join(
            f"{item.name}: calibration error {say_number(evaluation.calibration.ece)}"
            for item, evaluation in measured[:MOST_SERIES]
        ),
        x=Axis(label="mean best score of the images in a range", percent=True, low=0, high=1),
        y=Axis(label="share of them that is right", percent=True, low=0, high=1),
        series=series,
        rules=(Rule(axis="diagonal", label="score = accuracy"),),
        notes=(
            "Above the line the model is better than it says, below it worse. Bars: 95% intervals.",
            *say_left_out(len(series), len(measured)),
        ),
    )


def _bounds(found: Bin) -> tuple[float, float]:
    return wilson(round(found.accuracy * found.count), found.count)
