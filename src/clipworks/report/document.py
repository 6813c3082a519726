"""Documents: headline figures, warnings, and sections of tables, plots, images and text, before they have a form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from clipworks.report.tables import Table

# A line with a point at each value, a cumulated share, points alone, a histogram whose ``xs`` are edges, one more than
# its ``ys``.
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

    def __str__(self) -> str:
        return f"{self.source}: {self.text}" if self.source else self.text


def warn(source: str, *said: tuple[object, str]) -> tuple[Caution, ...]:
    """Cautions about one file: each text whose condition holds."""
    return tuple(Caution(source=source, text=text) for condition, text in said if condition)


@dataclass(frozen=True, kw_only=True)
class FactList:
    """Names with a value each, as lines."""

    rows: tuple[tuple[str, str], ...]


def list_facts(facts: Mapping[str, object]) -> FactList:
    """A list of those facts that are known: that are not None, 0 or empty."""
    return FactList(rows=tuple((name, str(value)) for name, value in facts.items() if value))


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: its label with the unit, its scale, where it begins and ends (None to fit), the only values marked."""

    label: str
    log: bool = False
    percent: bool = False
    low: float | None = None
    high: float | None = None
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values that belong together."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    mark: Mark = "line"
    low: tuple[float, ...] = ()  # ends of intervals of ``ys``, or empty
    high: tuple[float, ...] = ()
    tags: tuple[str, ...] = ()  # names beside the points, or empty
    hollow: bool = False  # points not filled: measured by somebody else, or not counted
    hue: int | None = None  # which colour and dash; None takes the series' place


def draw_points(
    label: str,
    points: Sequence[tuple[float, ...]],
    *,
    mark: Mark = "line",
    tags: Iterable[str] = (),
    hollow: bool = False,
    hue: int | None = None,
) -> Series:
    """Make a series of points ``(x, y)``, or ``(x, y, low, high)`` with the ends of an interval."""
    xs, ys, low, high = (tuple(point[place] for point in points if place < len(point)) for place in range(4))
    return Series(label=label, xs=xs, ys=ys, low=low, high=high, mark=mark, tags=tuple(tags), hollow=hollow, hue=hue)


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A straight line to compare with: at one value of an axis, or (``diagonal``) where both are the same."""

    axis: Literal["x", "y", "diagonal"]
    value: float = 0.0
    label: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot of at least one series; the summary says the same in words, for those who do not see it."""

    title: str
    summary: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rules: tuple[Guide, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small image as JPEG bytes, with its path and the lines of its caption."""

    jpeg: bytes
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images side by side."""

    title: str
    images: tuple[Thumbnail, ...]
    notes: tuple[str, ...] = ()


Item = Table | FactList | Plot | Gallery


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a document: text, then what it shows, in order; a table without rows is not shown."""

    title: str = ""
    text: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()

    @property
    def tables(self) -> Iterator[Table | FactList]:
        """What can be shown as text."""
        for item in self.items:
            if isinstance(item, FactList | Table) and item.rows:
                yield item


@dataclass(frozen=True, kw_only=True)
class Document:
    """What is shown of results: main figures, what must be known before they are trusted, and sections in order."""

    title: str = ""
    subtitle: str = ""
    headlines: tuple[Headline, ...] = ()
    warnings: tuple[Caution, ...] = ()
    sections: tuple[Section, ...] = ()
    made_by: str = ""
