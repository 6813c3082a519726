"""Comparisons in a report: accuracy against speed, parity with f32, what could not be had, and gates."""

from __future__ import annotations

from clipworks.comparison.figures import Speed
from clipworks.comparison.records import Comparison, Row
from clipworks.report.comparison_lists import tabulate_changed, tabulate_gates, tabulate_problems, tabulate_worst
from clipworks.report.comparison_tables import (
    say_difference,
    tabulate_differences,
    tabulate_footprints,
    tabulate_parity,
    tabulate_rows,
    tabulate_speeds,
)
from clipworks.report.document import Axis, Headline, Part, Plot, Section, Series, Table
from clipworks.report.figures import say_count, say_number, say_share
from clipworks.report.published import tabulate_published, tabulate_published_speeds

_MOST_TAGS = 24


def report_comparison(name: str, found: Comparison) -> Part:
    """Show one comparison.

    Args:
        name: its file.
        found: the comparison.
    """
    rows = [row for row in found.rows if row.granted is not None]
    numbers = {row.name: place for place, row in enumerate(rows, 1)}
    tables = (
        tabulate_rows(rows, numbers),
        tabulate_differences(rows, numbers),
        tabulate_gates(found),
        tabulate_parity(rows, numbers),
        tabulate_speeds(rows, numbers),
        tabulate_footprints(rows, numbers),
        tabulate_worst(rows),
        tabulate_changed(rows),
        tabulate_problems(found),
        tabulate_published(found.published),
        tabulate_published_speeds(found.published),
    )
    plot = _plot_pareto(found, rows, numbers)
    items: tuple[Table | Plot, ...] = (*((plot,) if plot else ()), *(table for table in tables if table.rows))
    over = found.pictures
    text = (
        f"{say_count(over.used, 'picture')} of {over.source}; {over.classes:,} classes ({over.labels}): "
        f"{say_count(over.templates, 'prompt')} a class; {over.with_truth:,} with a known class. "
        f"{say_count(found.rounds, 'round')}, rows interleaved: medians, the least and the most beside them.",
    )
    return Part(
        headlines=_find_headlines(rows), sections=(Section(title=f"Comparison: {name}", text=text, items=items),)
    )


def find_speed(row: Row) -> Speed | None:
    """The image tower's highest median rate."""
    speeds = [speed for speed in row.speeds if speed.tower == "image"]
    return max(speeds, key=lambda speed: speed.samples_per_s.median, default=None)


def _accuracy(row: Row, axis: str) -> tuple[float, float, float] | None:
    """A row's accuracy on the front's axis, with its interval."""
    if axis == "top1":
        first = next((one for one in row.accuracy if one.k == 1), None)
        return None if first is None else (first.share, first.low, first.high)
    if row.agreement is None:
        return (1.0, 1.0, 1.0) if row.is_reference else None
    share = row.agreement.top1
    return share.share, share.low, share.high


def _plot_pareto(found: Comparison, rows: list[Row], numbers: dict[str, int]) -> Plot | None:
    if found.pareto is None:
        return None
    axis = found.pareto.accuracy
    known = [
        (row, share, speed.samples_per_s.median)
        for row in rows
        if (share := _accuracy(row, axis)) is not None and (speed := find_speed(row)) is not None
    ]
    if not known:
        return None
    groups: tuple[tuple[str, bool, int], ...] = (("on the front", True, 0), ("beaten by another row", False, 6))
    series = []
    for label, kept, hue in groups:
        own = sorted((item for item in known if bool(item[0].pareto) is kept), key=lambda item: item[2])
        if own:
            series.append(
                Series(
                    label=label,
                    xs=tuple(speed for _, _, speed in own),
                    ys=tuple(share[0] for _, share, _ in own),
                    low=tuple(share[1] for _, share, _ in own),
                    high=tuple(share[2] for _, share, _ in own),
                    tags=tuple(str(numbers[row.name]) for row, _, _ in own) if len(known) <= _MOST_TAGS else (),
                    mark="line" if kept else "points",
                    hue=hue,
                )
            )
    published = [
        (row.top1, max(speed.samples_per_s for speed in row.speeds if speed.tower == "image"))
        for row in found.published
        if row.top1 is not None and any(speed.tower == "image" for speed in row.speeds)
    ]
    if published and axis == "top1":
        xs, ys = tuple(speed for _, speed in published), tuple(share for share, _ in published if share is not None)
        series.append(Series(label="published", xs=xs, ys=ys, mark="points", hollow=True, hue=3))
    named = [f"{numbers[row.name]} {row.name}: {say_share(share[0])}, {say_number(x)}" for row, share, x in known]
    return Plot(
        title="Accuracy against speed",
        summary="; ".join(named[:_MOST_TAGS]) + " pictures/s",
        x=Axis(label="image tower, pictures/s", low=0),
        y=Axis(label="top-1 accuracy" if axis == "top1" else "top-1 agreement with f32", percent=True),
        series=tuple(series),
        notes=("Numbers are the rows of the table below. Bars: 95% intervals. Better is up and to the right.",),
    )


def _find_headlines(rows: list[Row]) -> tuple[Headline, ...]:
    known = [(row, speed) for row in rows if (speed := find_speed(row)) is not None]
    if not known:
        return ()
    row, speed = max(known, key=lambda item: item[1].samples_per_s.median)
    ratio = "" if speed.ratio is None else f"; {say_number(speed.ratio.median)} times its reference"
    found = [
        Headline(
            label="Fastest row",
            value=f"{say_number(speed.samples_per_s.median)} pictures/s",
            detail=f"{row.name}, batch {speed.batch_size}, depth {speed.depth}{ratio}",
        )
    ]
    tested = [(row, next((item for item in row.differences if item.k == 1), None)) for row in rows]
    worst = min(
        ((row, item) for row, item in tested if item is not None), key=lambda pair: pair[1].difference, default=None
    )
    if worst is not None:
        detail = f"{worst[0].name} against {worst[1].reference}, p {_equal(say_difference(worst[1])[1])}"
        found.append(
            Headline(
                label="Lowest top-1 against its reference",
                value=f"{worst[1].difference * 100:+.1f} points",
                detail=detail,
            )
        )
    return tuple(found)


def _equal(value: str) -> str:
    return value if value.startswith("<") else f"= {value}"
