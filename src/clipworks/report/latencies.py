"""Latency plots of profiles: distribution and histogram of raw samples, and the windows that tell stability."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipworks.report.configurations import Lineup, Named
from clipworks.report.document import Axis, Plot, Rule, Series
from clipworks.report.figures import say_ms

# Lines that can still be told apart in one plot.
MOST_SERIES = 6
# Points of a distribution: finer steps than this cannot be seen.
_QUANTILES = 400
_BINS = 40
# From this ratio of largest to smallest value on, a linear axis hides one end.
_WIDE = 20.0


def plot_latencies(lineup: Lineup) -> list[Plot]:
    """The plots that the profiles have figures for."""
    plots = []
    raw = [item for item in lineup.items if item.profile.run.response_us]
    if raw:
        plots += [_plot_distribution(raw), _plot_histogram(raw)]
    windows = [item for item in lineup.items if len(item.profile.run.windows_per_s) > 1]
    if windows:
        plots.append(_plot_windows(windows))
    return plots


def say_left_out(shown: int, found: int) -> tuple[str, ...]:
    """A note where there is more than is drawn."""
    return (f"The first {shown} of {found} are drawn; the tables have all.",) if found > shown else ()


def is_wide(values: npt.NDArray[np.float64]) -> bool:
    """Whether values want a logarithmic axis."""
    good = values[np.isfinite(values) & (values > 0)]
    return len(good) > 0 and bool(good.max() > _WIDE * good.min())


def _milliseconds(item: Named) -> npt.NDArray[np.float64]:
    return np.sort(np.array(item.profile.run.response_us, dtype=np.float64)) / 1000


def _plot_distribution(items: list[Named]) -> Plot:
    series = []
    for item in items[:MOST_SERIES]:
        ordered = _milliseconds(item)
        places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _QUANTILES)).astype(int))
        series.append(
            Series(
                label=item.label,
                xs=tuple(ordered[places].tolist()),
                ys=tuple(((places + 1) / len(ordered)).tolist()),
                mark="step",
            )
        )
    everything = np.concatenate([one.xs for one in series])
    return Plot(
        title="Latency: share of requests answered within a time",
        summary="; ".join(
            f"{one.label}: {say_ms(1000 * float(np.median(_milliseconds(item))))} ms for half of the requests, "
            f"{say_ms(1000 * float(_milliseconds(item)[-1]))} ms for all"
            for one, item in zip(series, items, strict=False)
        ),
        x=Axis(label="response time, ms", log=is_wide(everything)),
        y=Axis(label="requests answered", percent=True, low=0, high=1),
        series=tuple(series),
        notes=say_left_out(len(series), len(items)),
    )


def _plot_histogram(items: list[Named]) -> Plot:
    shown = items[:MOST_SERIES]
    samples = [_milliseconds(item) for item in shown]
    everything = np.sort(np.concatenate(samples))
    # The slowest half percent would leave the rest a single bar: they are counted in the last one.
    low, high = float(everything[0]), float(everything[int(0.995 * (len(everything) - 1))])
    if high <= low:
        low, high = low * 0.95, low * 1.05 + 1e-6
    log = is_wide(np.array([low, high]))
    edges = np.geomspace(low, high, _BINS + 1) if log else np.linspace(low, high, _BINS + 1)
    series = tuple(
        Series(
            label=item.label,
            xs=tuple(edges.tolist()),
            ys=tuple((np.histogram(np.clip(values, low, high), edges)[0] / len(values)).tolist()),
            mark="outline",
        )
        for item, values in zip(shown, samples, strict=True)
    )
    beyond = int((everything > high).sum())
    return Plot(
        title="Latency: histogram",
        summary="; ".join(
            f"{item.label}: most often near {say_ms(1000 * float(edges[int(np.argmax(one.ys))]))} ms"
            for item, one in zip(shown, series, strict=True)
        ),
        x=Axis(label="response time, ms", log=log),
        y=Axis(label="requests in a bin", percent=True, low=0),
        series=series,
        notes=(
            *say_left_out(len(series), len(items)),
            *((f"The last bin holds {beyond:,} slower ones too.",) if beyond else ()),
        ),
    )


def _plot_windows(items: list[Named]) -> Plot:
    series = []
    for item in items[:MOST_SERIES]:
        rates = np.array(item.profile.run.windows_per_s)
        mean = float(rates[-3:].mean()) or 1.0
        series.append(
            Series(
                label=item.label,
                xs=tuple(float(place) for place in range(1, len(rates) + 1)),
                ys=tuple((rates / mean).tolist()),
            )
        )
    tolerances = {item.profile.load.tolerance for item in items[:MOST_SERIES] if item.profile.load.rate is None}
    band = tolerances.pop() if len(tolerances) == 1 else None
    rules = [Rule(axis="y", value=1, label="mean of the last three windows")]
    if band:
        rules += [Rule(axis="y", value=1 + sign * band, label=f"tolerance, {band:.0%}") for sign in (1, -1)]
    return Plot(
        title="Was it stable? The rate of each stretch of the measurement",
        summary="; ".join(f"{one.label}: {min(one.ys):.1%} to {max(one.ys):.1%} of its final rate" for one in series),
        x=Axis(label="window, in order", ticks=_ticks(max(len(one.xs) for one in series))),
        y=Axis(label="rate, of the last three's mean", percent=True),
        series=tuple(series),
        rules=tuple(rules),
        notes=say_left_out(len(series), len(items)),
    )


def _ticks(count: int) -> tuple[float, ...]:
    step = max(1, -(-count // 10))
    return tuple(float(place) for place in range(1, count + 1, step))
