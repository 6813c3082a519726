"""Plots as SVG that stands in a page: text as text, colours of the page's own, the same bytes for the same values.

matplotlib is imported here only, on first use. What a file names is in the legend, which the page writes, and beside
points, where it is text in SVG as in HTML.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import io
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from clipworks.cache import open_folder
from clipworks.display import show_text
from clipworks.errors import UsageError
from clipworks.report.document import Axis, Plot, Series
from clipworks.report.labels import LED, Box, place_labels
from clipworks.report.svg import DASHES, HUES, INK, PAPER, adopt_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# In inches: at this size the text is legible on a phone, where the plot is as wide as the screen.
_SIZE = (4.7, 3.0)
_LABEL_SIZE = 8.5
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

    style = importlib.resources.files("clipworks.report") / "plots.mplstyle"
    with _LOCK, importlib.resources.as_file(style) as file, mpl.rc_context({"svg.hashsalt": name}, fname=file):
        figure = Figure(figsize=_SIZE, layout="constrained", dpi=72)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _scale(axes.xaxis, axes.set_xscale, plot.x)
        _scale(axes.yaxis, axes.set_yscale, plot.y)
        for place, series in enumerate(plot.series):
            _draw_series(axes, series, place if series.hue is None else series.hue)
        _limit(axes, plot)
        for rule in plot.rules:
            _draw_rule(axes, rule.axis, rule.value)
        _label_points(figure, axes, plot)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return adopt_svg(stream.getvalue(), name)


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


def _label_points(figure: Figure, axes: Axes, plot: Plot) -> None:
    """Write the points' names where they hide nothing; a line leads from a name to a point that is not beside it."""
    named = [
        (x, y, show_text(tag))
        for series in plot.series
        for x, y, tag in zip(series.xs, series.ys, series.tags, strict=False)
    ]
    if not named:
        return
    figure.draw_without_rendering()  # only now is it known where the axes lie
    figure.set_layout_engine("none")
    # In points, as text is: the figure is drawn with 72 to the inch.
    places = [tuple(map(float, axes.transData.transform((x, y)))) for x, y, _ in named]
    texts = [axes.text(x, y, tag, fontsize=_LABEL_SIZE, zorder=5) for x, y, tag in named]
    boxes = [text.get_window_extent() for text in texts]
    window = axes.get_window_extent()
    frame = Box(left=window.x0, bottom=window.y0, width=window.width, height=window.height)
    found = place_labels(
        [(x, y) for x, y in places], [(box.width, box.height) for box in boxes], frame, _find_lines(axes, plot)
    )
    for text, (x, y), (box, distance) in zip(texts, places, found, strict=True):
        middle = (box.left + box.width / 2, box.bottom + box.height / 2)
        text.set(ha="center", va="center", transform=None, position=middle)
        if distance >= LED:
            end = (min(max(x, box.left), box.left + box.width), min(max(y, box.bottom), box.bottom + box.height))
            axes.annotate(
                "", (x, y), end, "figure pixels", "figure pixels", {"arrowstyle": "-", "lw": 0.6, "color": INK}
            )


def _find_lines(axes: Axes, plot: Plot) -> list[Box]:
    """Where lines and intervals run, as small boxes on their way."""
    boxes = []
    for series in plot.series:
        ends = [tuple(map(float, axes.transData.transform(point))) for point in zip(series.xs, series.ys, strict=False)]
        ways = list(itertools.pairwise(ends)) if series.mark == "line" else []
        for x, low, high in zip(series.xs, series.low, series.high, strict=False):
            bottom, top = (axes.transData.transform((x, y)) for y in (low, high))
            ways.append(((float(bottom[0]), float(bottom[1])), (float(top[0]), float(top[1]))))
        for (x0, y0), (x1, y1) in ways:
            steps = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / 4))
            boxes += [
                Box(left=x0 + (x1 - x0) * step / steps - 1, bottom=y0 + (y1 - y0) * step / steps - 1, width=2, height=2)
                for step in range(steps + 1)
            ]
    return boxes


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
