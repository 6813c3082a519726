"""Tables before they have a form: a row an item, a heading beside what gives its cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from clipworks.report.phrases import ABSENT

# More rows than anybody reads; a page must not grow with the results.
MOST_ROWS = 200
# A cell of figures: it may begin with a sign and end with an interval, a unit or a dagger.
_FIGURES = re.compile(r"(< )?[+-]?\d[\d,]*(\.\d+)?(e[+-]\d+)?(%|/255)?†?( \([^()]*\d%?\))?|inf|nan|inf/nan")

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its heading, whether it holds figures, and its place among those that a narrow form leaves out."""

    name: str
    numeric: bool
    spare: int | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, best made by `tabulate`; no cell is trusted to be free of markup.

    Attributes:
        columns: at least one; the first names the row.
        bars: for each row the parts, 0 to 1 of the full width, of a bar; empty for none.
        bar: the bars' heading; parts: what the parts of a bar are, where it has several.
        marked: places of the rows to stand out.
        left_out: rows that there were too many of.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[tuple[float, ...], ...] = ()
    bar: str = ""
    parts: tuple[str, ...] = ()
    marked: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The notes, and before them how many rows are left out."""
        return (*((f"{self.left_out:,} more rows are left out.",) if self.left_out else ()), *self.notes)


def tabulate(
    title: str,
    items: Sequence[Item],
    columns: Sequence[tuple[str, Callable[[Item], str]]],
    *,
    notes: Sequence[str] = (),
    marked: Callable[[Item], bool] = lambda _: False,
    spare: Sequence[str] = (),
    bars: tuple[str, Callable[[Item], tuple[float, ...]]] | None = None,
    parts: tuple[str, ...] = (),
    most: int = MOST_ROWS,
) -> Table:
    """Make a table: a row an item, without columns that hold nothing and bars that are all of one length.

    Args:
        title: what it shows.
        items: the rows; those beyond ``most`` are counted only.
        columns: heading, and what gives an item's cell.
        notes: below it.
        marked: whether a row stands out.
        spare: headings that a narrow form leaves out, the first of them first.
        bars: their heading, and what gives the parts of an item's bar, 0 to 1.
        parts: what the parts are.
        most: rows.
    """
    shown = items[:most]
    cells = [[read(item) for item in shown] for _, read in columns]
    kept = [
        place
        for place in range(len(columns))
        if place == 0 or any(cells[place][row] not in ("", ABSENT) for row in range(len(shown)))
    ]
    drawn = () if bars is None else tuple(bars[1](item) for item in shown)
    telling = bars is not None and len(set(drawn)) > 1
    return Table(
        title=title,
        columns=tuple(
            Column(
                name=columns[place][0],
                numeric=all(cell in ("", ABSENT) or _FIGURES.fullmatch(cell) for cell in cells[place]),
                spare=spare.index(columns[place][0]) if columns[place][0] in spare else None,
            )
            for place in kept
        ),
        rows=tuple(zip(*(cells[place] for place in kept), strict=True)),
        bars=drawn if telling else (),
        bar=bars[0] if bars is not None and telling else "",
        parts=parts if telling else (),
        marked=tuple(place for place, item in enumerate(shown) if marked(item)),
        notes=tuple(notes),
        left_out=len(items) - len(shown),
    )
