"""What others have published, to stand beside what was measured here."""

from __future__ import annotations

from collections.abc import Sequence

from clipworks.comparison.published import PublishedRow
from clipworks.report.document import Column, Part, Section, Table
from clipworks.report.figures import cut_rows, drop_empty, say_ms, say_number, say_share


def report_published(rows: Sequence[PublishedRow]) -> Part:
    """Show published figures in a section of their own."""
    tables = (tabulate_published(rows), tabulate_published_speeds(rows))
    return Part(sections=(Section(title="Figures of others", items=tuple(table for table in tables if table.rows)),))


def tabulate_published(rows: Sequence[PublishedRow]) -> Table:
    """Who published what, and how accurate it is said to be."""
    names = ("name", "model", "device", "precision", "top-1", "top-5", "images", "source")
    return cut_rows(
        drop_empty(
            Table(
                title="Published by others: not measured here",
                columns=tuple(Column(name=name, numeric=name.startswith("top-")) for name in names),
                rows=tuple(
                    (
                        row.name,
                        row.model or "",
                        row.device or "",
                        row.precision or "",
                        *("" if share is None else say_share(share) for share in (row.top1, row.top5)),
                        row.images or "",
                        row.source,
                    )
                    for row in rows
                ),
                notes=tuple(f"{row.name}: {note}." for row in rows for note in row.notes),
            )
        )
    )


def tabulate_published_speeds(rows: Sequence[PublishedRow]) -> Table:
    """How fast it is said to be: one row a tower and load, since a rate means nothing without what was in flight."""
    names = ("name", "tower", "batch", "in flight", "a second", "mean ms")
    return cut_rows(
        drop_empty(
            Table(
                title="Speeds published by others: not measured here",
                columns=tuple(Column(name=name, numeric=name not in ("name", "tower")) for name in names),
                rows=tuple(
                    (
                        row.name,
                        speed.tower,
                        "" if speed.batch_size is None else str(speed.batch_size),
                        say_number(speed.in_flight),
                        say_number(speed.samples_per_s, 4),
                        say_ms(speed.mean_us),
                    )
                    for row in rows
                    for speed in row.speeds
                ),
            )
        )
    )
