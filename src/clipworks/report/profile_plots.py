"""Plots of profiles: throughput over batch and depth and what it costs, how latencies spread, and stability."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from clipworks.profiling.profile import Profile
from clipworks.profiling.search import find_pareto
from clipworks.report.document import Axis, Guide, Plot, Series, draw_points
from clipworks.report.lineup import FACETS, MOST_SERIES, Lineup, Named, is_wide, say_left_out
from clipworks.report.phrases import say_number

# Points of a distribution: finer steps than this cannot be seen.
_QUANTILES = 400
_BINS = 40
_MOST_TAGS = 24
_AXES: tuple[tuple[str, str, Callable[[Profile], int]], ...] = (
    ("batch", "batch size, samples in a request", lambda item: item.batch_size),
    ("depth", "depth, requests in flight for each instance", lambda item: item.load.depth),
)
Milliseconds = npt.NDArray[np.float64]


def plot_profiles(lineup: Lineup) -> list[Plot]:
    """The plots that the profiles have figures for."""
    closed = [item for item in lineup.items if item.profile.load.rate is None]
    opened = [item for item in lineup.items if item.profile.load.rate is not None]
    plots = [plot for axis in _AXES for plot in _plot_over(closed, *axis, unit=lineup.unit)]
    plots += [_plot_cost(closed, lineup.unit)] if plots else []
    raw = [item for item in lineup.items if item.profile.run.response_us]
    samples = {item.label: np.sort(np.array(item.profile.run.response_us)) / 1000 for item in raw[:MOST_SERIES]}
    if samples:
        notes = say_left_out(len(samples), len(raw))
        plots += [_plot_distribution(samples, notes), _plot_histogram(samples, notes)]
    windows = [item for item in lineup.items if len(item.profile.run.windows_per_s) > 1]
    plots += [_plot_windows(windows)] if windows else []
    return plots + ([_plot_open_loops(opened)] if len({item.profile.load.rate for item in opened}) > 1 else [])


def _group(items: list[Named], without: str) -> dict[str, list[Named]]:
    """Items by what differs among them, one facet and their inputs aside."""
    others = [facet for facet in FACETS if facet.name not in (without, "inputs")]
    differing = [facet for facet in others if len({facet.read(item.profile) for item in items}) > 1]
    groups: dict[str, list[Named]] = {}
    for item in items:
        groups.setdefault(" ".join(facet.phrase(facet.read(item.profile)) for facet in differing), []).append(item)
    return groups


def _summarise(series: list[Series], say: Callable[[Series], str]) -> str:
    return "; ".join(f"{one.label}: {say(one)}" for one in series)


def _plot_distribution(samples: dict[str, Milliseconds], notes: tuple[str, ...]) -> Plot:
    series = []
    for label, ordered in samples.items():
        places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _QUANTILES)).astype(int))
        points = zip(ordered[places].tolist(), ((places + 1) / len(ordered)).tolist(), strict=True)
        series.append(draw_points(label, list(points), mark="step"))
    return Plot(
        title="Latency: share of requests answered within a time",
        summary="; ".join(
            f"{label}: {say_number(float(np.median(ordered)))} ms for half of the requests, "
            f"{say_number(float(ordered[-1]))} ms for all"
            for label, ordered in samples.items()
        ),
        x=Axis(label="response time, ms", log=is_wide([x for one in series for x in one.xs])),
        y=Axis(label="requests answered", percent=True, low=0, high=1),
        series=tuple(series),
        notes=notes,
    )


def _plot_histogram(samples: dict[str, Milliseconds], notes: tuple[str, ...]) -> Plot:
    everything = np.sort(np.concatenate(list(samples.values())))
    # The slowest half percent would leave the rest a single bar: they are counted in the last one.
    low, high = float(everything[0]), float(everything[int(0.995 * (len(everything) - 1))])
    if high <= low:
        low, high = low * 0.95, low * 1.05 + 1e-6
    log = is_wide((low, high))
    edges = np.geomspace(low, high, _BINS + 1) if log else np.linspace(low, high, _BINS + 1)
    series = []
    for label, values in samples.items():
        shares = np.histogram(np.clip(values, low, high), edges)[0] / len(values)
        series.append(Series(label=label, xs=tuple(edges.tolist()), ys=tuple(shares.tolist()), mark="outline"))
    beyond = int((everything > high).sum())
    return Plot(
        title="Latency: histogram",
        summary=_summarise(series, lambda one: f"most often near {say_number(one.xs[one.ys.index(max(one.ys))])} ms"),
        x=Axis(label="response time, ms", log=log),
        y=Axis(label="requests in a bin", percent=True, low=0),
        series=tuple(series),
        notes=(*notes, *((f"The last bin holds {beyond:,} slower ones too.",) if beyond else ())),
    )


def _plot_windows(items: list[Named]) -> Plot:
    series = []
    for item in items[:MOST_SERIES]:
        rates = np.array(item.profile.run.windows_per_s)
        shares = rates / (float(rates[-3:].mean()) or 1.0)
        series.append(draw_points(item.label, list(enumerate(shares.tolist(), 1))))
    tolerances = {item.profile.load.tolerance for item in items[:MOST_SERIES] if item.profile.load.rate is None}
    band = tolerances.pop() if len(tolerances) == 1 else None
    rules = [Guide(axis="y", value=1, label="mean of the last three windows")]
    if band:
        rules += [Guide(axis="y", value=1 + sign * band, label=f"tolerance, {band:.0%}") for sign in (1, -1)]
    count = max(len(one.xs) for one in series)
    return Plot(
        title="Was it stable? The rate of each stretch of the measurement",
        summary=_summarise(series, lambda one: f"{min(one.ys):.1%} to {max(one.ys):.1%} of its final rate"),
        x=Axis(label="window, in order", ticks=tuple(map(float, range(1, count + 1, max(1, -(-count // 10)))))),
        y=Axis(label="rate, of the last three's mean", percent=True),
        series=tuple(series),
        rules=tuple(rules),
        notes=say_left_out(len(series), len(items)),
    )


def _plot_over(items: list[Named], name: str, label: str, read: Callable[[Profile], int], *, unit: str) -> list[Plot]:
    """Throughput over the batch or the depth, where some profiles differ in nothing else."""
    lines = []
    for key, group in _group(items, "load" if name == "depth" else name).items():
        points: dict[float, float] = {}
        for item in group:
            points.setdefault(float(read(item.profile)), item.profile.samples_per_s())
        if len(points) > 1:
            lines.append(draw_points(key or unit, sorted(points.items())))
    if not lines:
        return []
    series = lines[:MOST_SERIES]
    values = sorted({value for one in series for value in one.xs})
    log = values[0] > 0 and values[-1] >= 8 * values[0]
    return [
        Plot(
            title=f"Throughput over {name}",
            summary=_summarise(
                series,
                lambda one: (
                    f"{say_number(one.ys[0])} {unit} at {one.xs[0]:g}, {say_number(one.ys[-1])} at {one.xs[-1]:g}"
                ),
            ),
            x=Axis(label=label, log=log, ticks=tuple(values) if len(values) < 9 else ()),
            y=Axis(label=unit, low=0),
            series=tuple(series),
            notes=say_left_out(len(series), len(lines)),
        )
    ]


def _mean_ms(item: Named) -> float:
    return item.profile.run.window.response.mean_us / 1000


def _plot_cost(items: list[Named], unit: str) -> Plot:
    points = [(item.profile.samples_per_s(), _mean_ms(item), item.label) for item in items]
    known = sorted(point for point in points if math.isfinite(point[1]))
    front = find_pareto([(rate, ms) for rate, ms, _ in known])
    best = [item for item, kept in zip(known, front, strict=True) if kept]
    rest = [item for item, kept in zip(known, front, strict=True) if not kept]

    def draw(label: str, shown: list[tuple[float, float, str]], hue: int) -> Series:
        tags = [name for _, _, name in shown if len(known) <= _MOST_TAGS]
        return draw_points(label, [one[:2] for one in shown], mark="points" if hue else "line", tags=tags, hue=hue)

    return Plot(
        title="What throughput costs in latency",
        summary=f"{len(best)} of {len(known)} configurations are on the front, from "
        f"{say_number(best[0][0])} {unit} at {say_number(best[0][1])} ms to "
        f"{say_number(best[-1][0])} at {say_number(best[-1][1])} ms",
        x=Axis(label=unit, low=0),
        y=Axis(label="mean response time, ms", log=is_wide([ms for _, ms, _ in known])),
        series=(draw("not beaten in both", best, 0), *((draw("beaten by another", rest, 6),) if rest else ())),
    )


def _plot_open_loops(items: list[Named]) -> Plot:
    groups = _group(items, "load")
    series = [
        draw_points(key or "mean", sorted((item.profile.load.rate or 0.0, _mean_ms(item)) for item in group))
        for key, group in list(groups.items())[:MOST_SERIES]
    ]
    return Plot(
        title="Open loop: latency over the offered rate",
        summary=_summarise(series, lambda one: f"{say_number(one.ys[0])} to {say_number(one.ys[-1])} ms"),
        x=Axis(label="offered, requests/s", low=0),
        y=Axis(label="mean response time, ms", log=is_wide([y for one in series for y in one.ys])),
        series=tuple(series),
        notes=say_left_out(len(series), len(groups)),
    )
