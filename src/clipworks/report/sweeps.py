"""Plots of profiles that differ in batch or depth: throughput over each, and what it costs in latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from clipworks.profiling.profile import Profile
from clipworks.profiling.search import find_pareto
from clipworks.report.configurations import FACETS, Lineup, Named
from clipworks.report.document import Axis, Plot, Series
from clipworks.report.figures import say_number
from clipworks.report.latencies import MOST_SERIES, is_wide, say_left_out

_AXES: tuple[tuple[str, str, Callable[[Profile], int]], ...] = (
    ("batch", "batch size, samples in a request", lambda item: item.batch_size),
    ("load", "depth, requests in flight for each instance", lambda item: item.load.depth),
)


def plot_sweeps(lineup: Lineup, unit: str) -> list[Plot]:
    """Throughput over batch and over depth, and throughput against latency, as far as the profiles differ in them."""
    closed = [item for item in lineup.items if item.profile.load.rate is None]
    plots = [plot for name, label, read in _AXES if (plot := _plot_over(closed, name, label, read, unit)) is not None]
    if plots:
        plots.append(_plot_cost(closed, unit))
    return plots


def _rate(item: Named) -> float:
    return item.profile.run.window.requests_per_s * item.profile.batch_size


def _plot_over(items: list[Named], name: str, label: str, read: Callable[[Profile], int], unit: str) -> Plot | None:
    others = [facet for facet in FACETS if facet.name not in (name, "inputs")]
    differing = [facet for facet in others if len({facet.read(item.profile) for item in items}) > 1]
    groups: dict[str, dict[int, float]] = {}
    for item in items:
        key = " ".join(facet.phrase(facet.read(item.profile)) for facet in differing)
        groups.setdefault(key, {}).setdefault(read(item.profile), _rate(item))
    lines = {key: sorted(points.items()) for key, points in groups.items() if len(points) > 1}
    if not lines:
        return None
    series = tuple(
        Series(
            label=key or unit,
            xs=tuple(float(value) for value, _ in points),
            ys=tuple(rate for _, rate in points),
        )
        for key, points in list(lines.items())[:MOST_SERIES]
    )
    values = sorted({value for one in series for value in one.xs})
    return Plot(
        title=f"Throughput over {'batch' if name == 'batch' else 'depth'}",
        summary="; ".join(
            f"{one.label}: {say_number(one.ys[0])} {unit} at {one.xs[0]:g}, {say_number(one.ys[-1])} at {one.xs[-1]:g}"
            for one in series
        ),
        x=Axis(
            label=label,
            log=values[0] > 0 and values[-1] >= 8 * values[0],
            ticks=tuple(values) if len(values) < 9 else (),
        ),
        y=Axis(label=unit, low=0),
        series=series,
        notes=say_left_out(len(series), len(lines)),
    )


def _plot_cost(items: list[Named], unit: str) -> Plot:
    good = [item for item in items if math.isfinite(item.profile.run.window.response.mean_us)]
    points = [(_rate(item), item.profile.run.window.response.mean_us / 1000) for item in good]
    front = find_pareto(points)
    best = sorted(point for point, kept in zip(points, front, strict=True) if kept)
    rest = [point for point, kept in zip(points, front, strict=True) if not kept]
    series = [
        Series(label="not beaten in both", xs=tuple(x for x, _ in best), ys=tuple(y for _, y in best)),
        Series(
            label="beaten by another", xs=tuple(x for x, _ in rest), ys=tuple(y for _, y in rest), mark="points", hue=6
        ),
    ]
    return Plot(
        title="What throughput costs in latency",
        summary=f"{len(best)} of {len(points)} configurations are on the front, from "
        f"{say_number(best[0][0])} {unit} at {say_number(best[0][1])} ms to "
        f"{say_number(best[-1][0])} at {say_number(best[-1][1])} ms",
        x=Axis(label=unit, low=0),
        y=Axis(label="mean response time, ms", log=is_wide(np.array([y for _, y in points])), low=None),
        series=tuple(one for one in series if one.xs),
    )


def plot_open_loops(profiles: Sequence[Profile]) -> list[Plot]:
    """Latency over rate where profiles differ in their rate."""
    opened = [item for item in profiles if item.load.rate is not None]
    if len({item.load.rate for item in opened}) < 2:
        return []
    others = [facet for facet in FACETS if facet.name not in ("load", "inputs")]
    differing = [facet for facet in others if len({facet.read(item) for item in opened}) > 1]
    groups: dict[str, list[tuple[float, float]]] = {}
    for item in opened:
        key = " ".join(facet.phrase(facet.read(item)) for facet in differing) or "mean"
        groups.setdefault(key, []).append((item.load.rate or 0.0, item.run.window.response.mean_us / 1000))
    series = tuple(
        Series(label=key, xs=tuple(x for x, _ in sorted(points)), ys=tuple(y for _, y in sorted(points)))
        for key, points in list(groups.items())[:MOST_SERIES]
    )
    return [
        Plot(
            title="Open loop: latency over the offered rate",
            summary="; ".join(f"{one.label}: {say_number(one.ys[0])} to {say_number(one.ys[-1])} ms" for one in series),
            x=Axis(label="offered, requests/s", low=0),
            y=Axis(label="mean response time, ms", log=is_wide(np.concatenate([one.ys for one in series]))),
            series=series,
            notes=say_left_out(len(series), len(groups)),
        )
    ]
