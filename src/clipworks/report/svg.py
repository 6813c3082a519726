"""SVG within a page: a drawn plot made part of it, samples of lines, markers and bars for legends, and text in both."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from clipworks.display import show_text
from clipworks.report.document import Plot, Series

# Stand-ins that become the page's colours: the ink of axes, of the grid, and of each series in turn.
INK, GRID = "#010101", "#020202"
HUES = tuple(f"#0a0a{place:02x}" for place in range(1, 8))
_ROLES = {INK: "var(--muted)", GRID: "var(--grid)"} | {hue: f"var(--s{place})" for place, hue in enumerate(HUES, 1)}
# Lines are told apart without colour too.
DASHES = ("", "6 2", "2 1.6", "7 2 1.5 2", "10 3", "4 1.5", "1 2.2")
_SAMPLE = '<svg width="24" height="10" viewBox="0 0 24 10" aria-hidden="true" focusable="false">{}</svg>'
# Those of `clipworks.report.plots`, small, at the middle of a sample.
_MARKERS = (
    '<circle cx="12" cy="5" r="3"/>',
    '<path d="M9 2h6v6h-6z"/>',
    '<path d="M12 1.5l3.5 6.5h-7z"/>',
    '<path d="M12 1l3.5 4-3.5 4-3.5-4z"/>',
    '<path d="M12 8.5l-3.5-6.5h7z"/>',
    '<path d="M11 2h2v2h2v2h-2v2h-2v-2h-2v-2h2z"/>',
    '<path d="M9 3l1-1 2 2 2-2 1 1-2 2 2 2-1 1-2-2-2 2-1-1 2-2z"/>',
)


def escape(text: str) -> str:
    """Text that stays text in HTML, in quotes too; what could turn the line's direction or end it is spelled out."""
    return html.escape(show_text(text), quote=True)


def write_legend(plot: Plot) -> str:
    """The legend of a plot as a list; none for one series whose points have names."""
    if len(plot.series) == 1 and plot.series[0].tags and not plot.rules:
        return ""
    entries = [(_draw_sample(series, place), series.label) for place, series in enumerate(plot.series)]
    rule = '<path d="M0 5h24" stroke="var(--muted)" stroke-dasharray="3 2"/>'
    entries += [(rule, label) for label in dict.fromkeys(rule.label for rule in plot.rules)]
    return _list(entries)


def write_parts(parts: Sequence[str]) -> str:
    """The legend of bars that have several parts."""
    sample = '<path d="M0 5h24" stroke="var(--s{})" stroke-width="8"/>'
    return _list([(sample.format(place), part) for place, part in enumerate(parts, 1)])


def _list(entries: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<li>{_SAMPLE.format(sample)}<bdi>{escape(label)}</bdi></li>" for sample, label in entries)
    return f'<ul class="legend">{items}</ul>' if items else ""


def _draw_sample(series: Series, place: int) -> str:
    hue = (place if series.hue is None else series.hue) % len(DASHES)
    colour = f"var(--s{hue + 1})"
    parts = []
    if series.mark != "points":
        dash = f' stroke-dasharray="{DASHES[hue]}"' if DASHES[hue] and series.mark != "outline" else ""
        parts.append(f'<path d="M0 5h24" stroke="{colour}" stroke-width="2"{dash}/>')
    if series.mark in ("line", "points"):
        look = f'fill="none" stroke="{colour}" stroke-width="1.4"' if series.hollow else f'fill="{colour}"'
        parts.append(f"<g {look}>{_MARKERS[hue % len(_MARKERS)]}</g>")
    return "".join(parts)


def adopt_svg(svg: str, name: str) -> str:
    """Make matplotlib's SVG a page's element: ids that begin with ``name``, the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, role in _ROLES.items():
        svg = svg.replace(colour, role)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    # A hundredth of a point cannot be seen.
    svg = re.sub(r"(\d+\.\d{2})\d+", r"\1", svg)
    svg = re.sub(r" ?transform=\"rotate\(-?0 [^\"]*\"", "", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    box = re.search(r'viewBox="([^"]*)"', svg)
    opening = f'<svg class="plot" viewBox="{box[1] if box else ""}" aria-hidden="true" focusable="false">'
    return opening + svg[svg.index(">") + 1 :].strip()
