"""Searches: a grid of configurations with its best points, and the highest rate that keeps a latency bound."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipworks.errors import UsageError
from clipworks.profiling.profile import Load, Profile, Run
from clipworks.profiling.statistics import count_needed

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}
AXES = ("batch", "depth", "instances", "threads")


@dataclass(frozen=True, kw_only=True)
class Slo:
    """A bound on a percentile of the response time: p99=50ms."""

    percent: float
    bound_us: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One rate that was tried: what it gave, and whether the bound held, on enough samples and without overload."""

    rate: float
    run: Run
    kept: bool


@dataclass(frozen=True, kw_only=True)
class RateSearch:
    """The search for the highest rate that keeps a bound."""

    slo: Slo  # the bound
    best: float | None  # the highest rate that kept it, in requests/s, or None when not even the lowest did
    lowest_failed: float | None  # the lowest rate that broke it, or None
    trials: tuple[Trial, ...]  # in the order tried
    partial: bool = False  # whether Ctrl-C cut it short


def parse_slo(text: str) -> Slo:
    """Read ``p99=50ms``; raises UsageError for another form, percentile or bound."""
    match = re.fullmatch(r"p(\d+(?:\.\d+)?)\s*=\s*(\d+(?:\.\d+)?)\s*(us|ms|s)", text.strip())
    if not match:
        raise UsageError(f"--slo is {text!r}; allowed: a percentile and a time, as in p99=50ms (us, ms or s)")
    percent, bound = float(match[1]), float(match[2]) * _UNITS[match[3]]
    if not 0 < percent <= 100 or bound <= 0:
        raise UsageError(f"--slo is {text!r}; allowed: a percentile above 0 up to 100, a time above 0")
    return Slo(percent=percent, bound_us=bound)


def search_rate(
    capacity: float, load: Load, slo: Slo, run_load: Callable[[Load], Run], *, precision: float = 0.05
) -> RateSearch:
    """Find the highest Poisson rate that keeps a bound, by halving the interval between kept and broken.

    No open loop can sustain more than ``capacity``, the requests/s of the closed loop. The load is each trial's, its
    rate aside; kept and broken rates within ``precision``, a share, of each other end the search.
    """
    trials: list[Trial] = []

    def keeps(rate: float) -> bool:
        count = max(load.iterations, count_needed(slo.percent))
        seconds = min(max(load.duration_s, count / rate), load.timeout_s or math.inf)
        run = run_load(
            dataclasses.replace(
                load,
                rate=rate,
                iterations=count,
                duration_s=seconds,
                timeout_s=load.timeout_s or 2 * seconds,
                percentiles=tuple(sorted({*load.percentiles, slo.percent})),
                # Poisson arrivals are uneven by nature: windows would not agree, so the time alone decides.
                tolerance=1.0,
            )
        )
        found = run.window.response.find(slo.percent)
        kept = found is not None and found.trusted and found.value_us <= slo.bound_us and not run.overloaded
        trials.append(Trial(rate=rate, run=run, kept=kept))
        if run.stop == "interrupted":
            raise KeyboardInterrupt
        return kept

    best: float | None = None
    failed: float | None = None
    partial = False
    try:
        rate = 0.5 * capacity
        while best is None and rate > 0.01 * capacity:
            if keeps(rate):
                best = rate
                break
            failed, rate = rate, rate / 2
            # Where not one request kept the bound no lower rate does: it shortens queues, never the service.
            if trials[-1].run.window.response.min_us > slo.bound_us:
                break
        high = failed or 1.05 * capacity
        while best is not None and high / best > 1 + precision:
            middle = (best + high) / 2
            if keeps(middle):
                best = middle
            else:
                failed = high = middle
    except KeyboardInterrupt:
        if not trials:
            raise
        partial = True
    return RateSearch(slo=slo, best=best, lowest_failed=failed, trials=tuple(trials), partial=partial)


def parse_sweep(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read ``batch=1,2,4 depth=0,1``; raises UsageError for an unknown axis, one given twice, or wrong values."""
    axes: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, _, values = word.partition("=")
        if name not in AXES:
            raise UsageError(f"--sweep {word!r}: unknown axis {name!r}; allowed: {', '.join(AXES)}, as in batch=1,2,4")
        if name in axes:
            raise UsageError(f"--sweep names {name} twice")
        try:
            axes[name] = tuple(dict.fromkeys(int(value) for value in values.split(",")))
        except ValueError:
            raise UsageError(f"--sweep {word!r}: allowed: whole numbers with commas, as in {name}=1,2,4") from None
        low = 0 if name == "depth" else 1
        if min(axes[name]) < low:
            raise UsageError(f"--sweep {word!r}: allowed: {low} or more")
    return axes


def find_pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Mark the points that no other beats: (throughput, latency), more of the first and less of the second is better.

    Equal points are both marked.
    """
    return [not any(other != own and other[0] >= own[0] and other[1] <= own[1] for other in points) for own in points]


def rank_profiles(profiles: Sequence[Profile], percent: float) -> tuple[int, list[bool]]:
    """The index of the highest throughput in samples/s, and which profiles are on the Pareto front against pN."""
    found = [item.run.window.response.find(percent) for item in profiles]
    points = [
        (item.samples_per_s(), math.nan if latency is None else latency.value_us)
        for item, latency in zip(profiles, found, strict=True)
    ]
    return max(range(len(points)), key=lambda index: points[index][0]), find_pareto(points)
