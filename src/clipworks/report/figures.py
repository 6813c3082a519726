"""How figures are written in a report: enough digits to compare, never more than were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipworks.report.document import Table

# More rows than anybody reads; a page must not grow with the results.
MOST_ROWS = 200


def say_share(share: float) -> str:
    """A share as percent with one decimal."""
    return f"{share:.1%}"


def say_interval(low: float, high: float) -> str:
    """Two shares as the ends of an interval."""
    return f"{low * 100:.1f} to {high:.1%}"


def say_number(value: float | None, digits: int = 3) -> str:
    """A figure with so many significant digits, and a dash for one that is missing."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    decimals = 0 if size >= 10 ** (digits - 1) or size == 0 else digits - 1 - math.floor(math.log10(size))
    return f"{value:,.{min(decimals, 6)}f}"


def say_ms(value_us: float | None) -> str:
    """Microseconds as milliseconds, without the unit."""
    return say_number(None if value_us is None else value_us / 1000)


def say_bytes(count: int) -> str:
    """A size in MB."""
    return say_number(count / 1e6)


def say_count(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def say_cosine(value: float) -> str:
    """A cosine: those near 1 differ late."""
    return f"{value:.6f}"


def cut_rows(table: Table, most: int = MOST_ROWS) -> Table:
    """Keep the first rows of a table, and say how many there were besides."""
    if len(table.rows) <= most:
        return table
    return Table(
        title=table.title,
        columns=table.columns,
        rows=table.rows[:most],
        bars=table.bars[:most],
        parts=table.parts,
        marked=tuple(place for place in table.marked if place < most),
        notes=table.notes,
        left_out=table.left_out + len(table.rows) - most,
    )


def drop_empty(table: Table) -> Table:
    """Leave out columns that hold no value in any row; the first column stays."""
    places = [
        place
        for place in range(len(table.columns))
        if place == 0 or any(row[place] not in ("", "–") for row in table.rows)
    ]
    return Table(
        title=table.title,
        columns=tuple(table.columns[place] for place in places),
        rows=tuple(tuple(row[place] for place in places) for row in table.rows),
        bars=table.bars,
        parts=table.parts,
        marked=table.marked,
        notes=table.notes,
        left_out=table.left_out,
    )


def keep_telling_bars(table: Table) -> Table:
    """Leave out bars that are all of one length: they say nothing."""
    if len(set(table.bars)) > 1:
        return table
    return Table(
        title=table.title,
        columns=table.columns[:-1],
        rows=tuple(row[:-1] for row in table.rows),
        marked=table.marked,
        notes=table.notes,
        left_out=table.left_out,
    )


def join_words(words: Sequence[str]) -> str:
    """One, or one and another, or one, another and a third."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
