"""Legends: samples of lines, markers and bars, drawn as `plots` draws them, with names that the page escapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipworks.report.document import Plot, Series
from clipworks.report.plots import DASHES

_SAMPLE = '<svg width="24" height="10" viewBox="0 0 24 10" aria-hidden="true" focusable="false">{}</svg>'
# The markers of `plots`, small, at the middle of a sample.
_MARKERS = (
    '<circle cx="12" cy="5" r="3"/>',
    '<path d="M9 2h6v6h-6z"/>',
    '<path d="M12 1.5l3.5 6.5h-7z"/>',
    '<path d="M12 1l3.5 4-3.5 4-3.5-4z"/>',
    '<path d="M12 8.5l-3.5-6.5h7z"/>',
    '<path d="M11 2h2v2h2v2h-2v2h-2v-2h-2v-2h2z"/>',
    '<path d="M9 3l1-1 2 2 2-2 1 1-2 2 2 2-1 1-2-2-2 2-1-1 2-2z"/>',
)


def _draw_sample(series: Series, place: int) -> str:
    hue = (place if series.hue is None else series.hue) % len(DASHES)
    colour = f"var(--s{hue + 1})"
    parts = []
    if series.mark != "points":
        parts.append(
            f'<path d="M0 5h24" stroke="{colour}" stroke-width="2"'
            + (f' stroke-dasharray="{DASHES[hue]}"' if DASHES[hue] and series.mark != "outline" else "")
            + "/>"
        )
    if series.mark in ("line", "points"):
        look = f'fill="none" stroke="{colour}" stroke-width="1.4"' if series.hollow else f'fill="{colour}"'
        parts.append(f"<g {look}>{_MARKERS[hue % len(_MARKERS)]}</g>")
    return _SAMPLE.format("".join(parts))


def write_legend(plot: Plot, escape: Callable[[str], str]) -> str:
    """The legend of a plot as a list."""
    entries = [(_draw_sample(series, place), series.label) for place, series in enumerate(plot.series)]
    rule = _SAMPLE.format('<path d="M0 5h24" stroke="var(--muted)" stroke-dasharray="3 2"/>')
    entries += [(rule, label) for label in dict.fromkeys(rule.label for rule in plot.rules)]
    return _list(entries, escape)


def write_parts(parts: Sequence[str], escape: Callable[[str], str]) -> str:
    """The legend of bars that have several parts."""
    sample = '<path d="M0 5h24" stroke="var(--s{})" stroke-width="8"/>'
    return _list([(_SAMPLE.format(sample.format(place)), part) for place, part in enumerate(parts, 1)], escape)


def _list(entries: Sequence[tuple[str, str]], escape: Callable[[str], str]) -> str:
    items = "".join(f"<li>{sample}<bdi>{escape(label)}</bdi></li>" for sample, label in entries)
    return f'<ul class="legend">{items}</ul>' if items else ""
