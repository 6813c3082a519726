"""Comparisons in a report: accuracy against speed, parity with f32, what was not available, and gates."""

from __future__ import annotations

from clipworks.comparison.comparison import Comparison, Row
from clipworks.report.comparison_lists import tabulate_changed, tabulate_gates, tabulate_problems, tabulate_worst
from clipworks.report.comparison_plots import find_speed, plot_rows
from clipworks.report.comparison_tables import (
    say_difference,
    tabulate_differences,
    tabulate_footprints,
    tabulate_parity,
    tabulate_rows,
    tabulate_speeds,
)
from clipworks.report.document import Headline, Part, Plot, Section, Table
from clipworks.report.figures import say_count, say_number, say_share
from clipworks.report.published import tabulate_published, tabulate_published_speeds


def report_comparison(name: str, found: Comparison) -> Part:
    """Show one comparison.

    Args:
        name: its file.
        found: the comparison.
    """
    rows = [row for row in found.rows if row.actual is not None]
    numbers = {row.name: place for place, row in enumerate(rows, 1)}
    tables = (
        tabulate_rows(rows, numbers),
        tabulate_differences(rows, numbers),
        tabulate_gates(found),
        tabulate_parity(rows, numbers),
        tabulate_speeds(rows, numbers),
        tabulate_footprints(rows, numbers),
        tabulate_worst(rows, found.images.source),
        tabulate_changed(rows, found.images.source),
        tabulate_problems(found),
        tabulate_published(found.published),
        tabulate_published_speeds(found.published),
    )
    items: tuple[Table | Plot, ...] = (
        *plot_rows(found, rows, numbers),
        *(table for table in tables if table.rows),
    )
    over = found.images
    text = (
        f"{say_count(over.used, 'image')} of {over.source}; {over.classes:,} classes ({over.labels}): "
        f"{say_count(over.templates, 'prompt')} a class; {over.with_truth:,} with a known class. "
        f"{say_count(found.rounds, 'round')}, rows interleaved: medians, the least and the most beside them.",
    )
    return Part(
        headlines=_find_headlines(rows), sections=(Section(title=f"Comparison: {name}", text=text, items=items),)
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
            value=f"{say_number(speed.samples_per_s.median)} images/s",
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
    agreed = [(row, row.agreement) for row in rows if row.agreement is not None]
    if agreed:
        row, agreement = min(agreed, key=lambda pair: pair[1].top1.share)
        found.append(
            Headline(
                label="Least agreement with its reference",
                value=say_share(agreement.top1.share),
                detail=f"{row.name}: images with the same best class as in {agreement.reference}",
            )
        )
    return tuple(found)


def _equal(value: str) -> str:
    return value if value.startswith("<") else f"= {value}"
