"""Tables before they have a form: a row an item, a heading beside what gives its cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from clipworks.report.phrases import ABSENT

# More rows than anybody reads; a page must not grow with the results.
MOST_ROWS = 200
_NOTHING = ("", ABSENT)
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
    """A table, best made by `tabulate`; no cell is trusted to be free of markup."""

    title: str
    columns: tuple[Column, ...]  # at least one; the first names the row
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[tuple[float, ...], ...] = ()  # for each row the parts, 0 to 1 of the full width, of a bar
    bar: str = ""  # the bars' heading
    parts: tuple[str, ...] = ()  # what the parts of a bar are, where it has several
    marked: tuple[int, ...] = ()  # places of the rows to stand out
    notes: tuple[str, ...] = ()
    left_out: int = 0  # rows that there were too many of

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

    A column is its heading and what gives an item's cell; ``spare`` has the headings that a narrow form leaves out,
    the first of them first; ``bars`` are their heading and what gives the parts of an item's bar, 0 to 1. Items beyond
    ``most`` are counted only.
    """
    shown = items[:most]
    cells = [(name, [read(item) for item in shown]) for name, read in columns]
    # The first names the rows.
    kept = cells[:1] + [(name, column) for name, column in cells[1:] if not all(cell in _NOTHING for cell in column)]
    heading, read_bar = bars or ("", lambda _: ())
    drawn = tuple(read_bar(item) for item in shown)
    telling = len(set(drawn)) > 1
    return Table(
        title=title,
        columns=tuple(
            Column(
                name=name,
                numeric=all(cell in _NOTHING or _FIGURES.fullmatch(cell) for cell in column),
                spare=spare.index(name) if name in spare else None,
            )
            for name, column in kept
        ),
        rows=tuple(zip(*(column for _, column in kept), strict=True)),
        bars=drawn if telling else (),
        bar=heading if telling else "",
        parts=parts if telling else (),
        marked=tuple(place for place, item in enumerate(shown) if marked(item)),
        notes=tuple(filter(None, notes)),
        left_out=len(items) - len(shown),
    )
