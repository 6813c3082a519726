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

import numpy as np

from clipworks.cache import open_folder
from clipworks.display import show_text
from clipworks.errors import UsageError
from clipworks.report.document import Axis, Plot, Series
from clipworks.report.labels import LED, Floats, place_labels
from clipworks.report.svg import DASHES, HUES, INK, adopt_svg

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

    All its ids begin with ``name``: letters and digits, others for each plot of a page.
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
    if series.mark == "outline":
        axes.stairs(series.ys, series.xs, color=colour, fill=False, linewidth=1.5)
        axes.stairs(series.ys, series.xs, color=colour, fill=True, alpha=0.12, linewidth=0)
        return
    if series.low:
        reach = np.maximum([np.subtract(series.ys, series.low), np.subtract(series.high, series.ys)], 0)
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
        marker=_MARKERS[hue % len(_MARKERS)],
        markersize=7.5 if series.hollow else 4.5,
        markerfacecolor="none" if series.hollow else colour,
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
    places = axes.transData.transform([(x, y) for x, y, _ in named])
    texts = [axes.text(x, y, tag, fontsize=_LABEL_SIZE, zorder=5) for x, y, tag in named]
    sizes = np.array([text.get_window_extent().size for text in texts])
    found = place_labels(places, sizes, np.array(axes.get_window_extent().extents), _find_lines(axes, plot))
    for text, place, (box, distance) in zip(texts, places, found, strict=True):
        text.set(ha="center", va="center", transform=None, position=(box[:2] + box[2:]) / 2)
        if distance >= LED:
            end = place.clip(box[:2], box[2:])
            axes.annotate(
                "", place, end, "figure pixels", "figure pixels", {"arrowstyle": "-", "lw": 0.6, "color": INK}
            )


def _find_lines(axes: Axes, plot: Plot) -> Floats:
    """Where lines and intervals run, as small boxes on their way."""
    steps: list[Floats] = [np.empty((0, 2))]
    for series in plot.series:
        ways = list(itertools.pairwise(zip(series.xs, series.ys, strict=True))) if series.mark == "line" else []
        bars = zip(series.xs, series.low, series.high, strict=False)
        for way in (*ways, *(((x, low), (x, high)) for x, low, high in bars)):
            start, end = axes.transData.transform(way)
            steps.append(np.linspace(start, end, 1 + max(1, int(np.abs(end - start).max() / 4))))
    places = np.concatenate(steps)
    return np.hstack([places - 1, places + 1])


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
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    axis.set_label_text(spec.label)
    if spec.log:
        set_scale("log")
    if spec.log or spec.ticks:
        axis.set_major_locator(FixedLocator(spec.ticks) if spec.ticks else LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    if spec.percent:
        axis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g}%")


def _limit(axes: Axes, plot: Plot) -> None:
    """Give both axes their ends; a curve that ends at one of them is not cut in half there."""
    if (plot.x.low, plot.x.high) == (0, 1):
        axes.set_xlim(-0.01, 1.02)
    elif (plot.x.low, plot.x.high) != (None, None):
        axes.set_xlim(left=plot.x.low, right=plot.x.high)
    low, high = plot.y.low, plot.y.high
    if (low, high) != (None, None):
        axes.set_ylim(bottom=low, top=None if high is None else high + 0.02 * (high - (low or 0.0)))
