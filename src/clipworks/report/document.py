"""A report before it has a form: headline figures, warnings, sections of tables and plots. Plain values throughout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["line", "step", "points", "outline"]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One main figure: what it is, its value with its unit, and one line of what to know with it."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Caution:
    """What a reader must know before trusting a figure: the file that it is about, and one sentence."""

    source: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's heading, and whether it holds figures."""

    name: str
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; no cell is trusted to be free of markup.

    Attributes:
        title: what it shows.
        columns: at least one; the first names the row.
        rows: cells, one for each column.
        bars: for each row the parts, 0 to 1 of the full width, of a bar drawn in its last column; empty for none.
        parts: what the parts of a bar are, where it has several.
        marked: places of the rows to stand out.
        notes: below it.
        left_out: rows that there were too many of.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[tuple[float, ...], ...] = ()
    parts: tuple[str, ...] = ()
    marked: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: its label with the unit, and how values lie on it.

    Attributes:
        label: with the unit.
        log: whether the scale is logarithmic.
        percent: whether values are shares to be written as percent.
        low: where it begins; None to fit.
        high: where it ends; None to fit.
        ticks: the only values marked; empty to choose.
    """

    label: str
    log: bool = False
    percent: bool = False
    low: float | None = None
    high: float | None = None
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values that belong together.

    Attributes:
        label: for the legend.
        xs: as long as ``ys``.
        ys: values.
        mark: ``line`` with a point at each value, ``step`` a cumulated share, ``points``, ``outline`` of a histogram,
            whose ``xs`` are edges, one more than ``ys``.
        low: lower ends of intervals of ``ys``, or empty.
        high: upper ends.
        tags: short texts of our own beside the points, or empty.
        hollow: points not filled: measured by somebody else, or not counted.
        hue: which colour and dash; None takes the series' place.
    """

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    mark: Mark = "line"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    tags: tuple[str, ...] = ()
    hollow: bool = False
    hue: int | None = None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A straight line to compare with: at one value of an axis, or (``diagonal``) where both are the same."""

    axis: Literal["x", "y", "diagonal"]
    value: float = 0.0
    label: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot.

    Attributes:
        title: what it shows.
        summary: the same in words, for those who do not see it.
        x: the axis across.
        y: the axis upwards.
        series: at least one.
        rules: lines to compare with.
        notes: below it.
    """

    title: str
    summary: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small image: JPEG bytes (None where it was not found), its caption's lines, the first of them its name."""

    jpeg: bytes | None
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images side by side."""

    title: str
    images: tuple[Thumbnail, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a report: text, then what it shows, in order."""

    title: str
    text: tuple[str, ...] = ()
    items: tuple[Table | Plot | Gallery, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Document:
    """A whole report.

    Attributes:
        title: of the page.
        subtitle: what it was made from, in one line.
        headlines: the main figures.
        warnings: what must be known before they are trusted.
        sections: in order.
        made_by: the program and its version.
    """

    title: str
    subtitle: str
    headlines: tuple[Headline, ...]
    warnings: tuple[Caution, ...]
    sections: tuple[Section, ...]
    made_by: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one kind of results adds to a report."""

    headlines: tuple[Headline, ...] = ()
    warnings: tuple[Caution, ...] = ()
    sections: tuple[Section, ...] = ()
