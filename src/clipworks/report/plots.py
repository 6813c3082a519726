"""Plots as SVG that stands in a page: text as text, colours of the page's own, the same bytes for the same values.

matplotlib is imported here only, on first use. It sees figures and words of our own, never a name from a file: those
are in the legend, which the page writes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from clipworks.cache import open_folder
from clipworks.errors import UsageError
from clipworks.report.document import Axis, Plot, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins that become the page's colours: the ink of axes, of the grid, and of each series in turn.
INK, GRID, PAPER = "#010101", "#020202", "#030303"
HUES = tuple(f"#0a0a{place:02x}" for place in range(1, 8))
_ROLES = {INK: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}
# Lines are told apart without colour too.
DASHES = ("", "6 2", "2 1.6", "7 2 1.5 2", "10 3", "4 1.5", "1 2.2")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# In inches: at this size the text is legible on a phone, where the plot is as wide as the screen.
_SIZE = (4.7, 3.0)
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.linewidth": 0.8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
}
# matplotlib's settings are the process's own.
_LOCK = threading.Lock()


def require_matplotlib() -> None:
    """Raise UsageError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "a page with plots needs the package matplotlib",
            hint="pip install 'clipworks[report]'; the tables alone need nothing (no -o, or --markdown)",
        )


def draw(plot: Plot, name: str) -> str:
    """Draw a plot as an ``svg`` element, for a page with the colours ``--muted``, ``--grid``, ``--s1`` to ``--s7``.

    Args:
        plot: what to draw.
        name: letters and digits, another one for each plot of a page; begins all its ids.

    Raises:
        UsageError: matplotlib is not installed.
    """
    require_matplotlib()
    with _LOCK, _caching():
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

    settings: Any = {**_SETTINGS, "svg.hashsalt": name}
    with _LOCK, mpl.rc_context(settings):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _scale(axes.xaxis, axes.set_xscale, plot.x)
        _scale(axes.yaxis, axes.set_yscale, plot.y)
        for place, series in enumerate(plot.series):
            _draw_series(axes, series, place if series.hue is None else series.hue)
        _limit(axes, plot)
        for rule in plot.rules:
            _draw_rule(axes, rule.axis, rule.value)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _adopt(stream.getvalue(), name)


@contextlib.contextmanager
def _caching() -> Iterator[None]:
    """Let matplotlib, which looks for a folder when it is imported, keep its list of fonts in our cache."""
    name = "MPLCONFIGDIR"
    folder = None if "matplotlib" in sys.modules or name in os.environ else open_folder("matplotlib")
    if folder is None:
        yield
        return
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        del os.environ[name]


def _draw_series(axes: Axes, series: Series, hue: int) -> None:
    colour = HUES[hue % len(HUES)]
    marker = _MARKERS[hue % len(_MARKERS)]
    face = PAPER if series.hollow else colour
    if series.mark == "outline":
        axes.stairs(series.ys, series.xs, color=colour, fill=False, linewidth=1.5)
        axes.stairs(series.ys, series.xs, color=colour, fill=True, alpha=0.12, linewidth=0)
        return
    if series.low:
        reach = (
            [max(y - low, 0.0) for y, low in zip(series.ys, series.low, strict=True)],
            [max(high - y, 0.0) for y, high in zip(series.ys, series.high, strict=True)],
        )
        axes.errorbar(series.xs, series.ys, yerr=reach, fmt="none", ecolor=colour, elinewidth=1.1, alpha=0.75)
    if series.mark == "step":
        axes.step(series.xs, series.ys, where="post", color=colour, linewidth=1.6, linestyle=_dash(hue))
        return
    axes.plot(
        series.xs,
        series.ys,
        color=colour,
        linewidth=1.6,
        linestyle=_dash(hue) if series.mark == "line" else "none",
        marker=marker,
        markersize=7.5 if series.hollow else 4.5,
        markerfacecolor=face if not series.hollow else "none",
        markeredgewidth=1.4 if series.hollow else 0.5,
    )
    # Two series may have points in one place: their tags stand above and below.
    offset = (4, 4) if series.mark == "line" else (4, -10)
    for x, y, tag in zip(series.xs, series.ys, series.tags, strict=False):
        axes.annotate(tag, (x, y), xytext=offset, textcoords="offset points", fontsize=8.5)


def _dash(hue: int) -> Any:
    text = DASHES[hue % len(DASHES)]
    return (0, tuple(float(part) / 1.6 for part in text.split())) if text else "solid"


def _draw_rule(axes: Axes, axis: str, value: float) -> None:
    look: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (3, 2)), "zorder": 1.5}
    if axis == "x":
        axes.axvline(value, **look)
    elif axis == "y":
        axes.axhline(value, **look)
    else:
        axes.plot([0, 1], [0, 1], scalex=False, scaley=False, **look)


def _scale(axis: Any, set_scale: Callable[[str], object], spec: Axis) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axis.set_label_text(spec.label)
    if spec.log:
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if spec.percent:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}%"))
    if spec.ticks:
        axis.set_major_locator(FixedLocator(list(spec.ticks)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _limit(axes: Axes, plot: Plot) -> None:
    """Give both axes their ends; a curve that ends at one of them is not cut in half there."""
    if plot.x.low is not None or plot.x.high is not None:
        axes.set_xlim(left=plot.x.low, right=plot.x.high)
    if plot.y.low is not None or plot.y.high is not None:
        low, high = plot.y.low, plot.y.high
        span = (high if high is not None else axes.get_ylim()[1]) - (low or 0.0)
        axes.set_ylim(bottom=low, top=None if high is None else high + 0.02 * span)
    if plot.x.low == 0 and plot.x.high == 1:
        axes.set_xlim(-0.01, 1.02)


def _adopt(svg: str, name: str) -> str:
    """Make a file's content an element of a page: ids of its own, colours and font of the page, no more than needed."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, role in (*_ROLES.items(), *((hue, f"var(--s{place})") for place, hue in enumerate(HUES, 1))):
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
