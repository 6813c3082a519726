"""Statistics of a trace: windows, percentiles, Little's law, queue and overload. Pure functions of recorded times."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipworks.errors import UsageError
from clipworks.profiling.clock import NS
from clipworks.profiling.load import Times, Trace

# A percentile is trusted when, were it really above the value shown, seeing at most one sample above it would have
# this chance at most: the early-stopping rule of the MLPerf Inference LoadGen (99% confidence, one overrun allowed).
_MISTRUST = 0.01


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """One percentile of a set of samples."""

    percent: float  # 0 to 100
    value_us: float  # nearest-rank value in microseconds
    trusted: bool  # whether there are enough samples behind it
    needed: int  # how many samples that takes


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A set of durations in microseconds."""

    count: int  # samples
    mean_us: float  # arithmetic mean
    min_us: float  # smallest
    max_us: float  # largest
    percentiles: tuple[Percentile, ...]  # in the order asked for

    def find(self, percent: float) -> Percentile | None:
        """A percentile, if it was asked for."""
        return next((item for item in self.percentiles if item.percent == percent), None)


@dataclass(frozen=True, kw_only=True)
class Window:
    """What one stretch of time says."""

    seconds: float  # its length
    requests: int  # finished in it
    requests_per_s: float  # finished over its length
    response: Spread  # from intended start to answer
    service: Spread  # from real start to answer
    queue: Spread  # from intended to real start
    in_flight: float  # mean number of requests being served, from the areas of the times themselves
    little: float  # requests_per_s times the mean service time: Little's law says that it equals ``in_flight``


@dataclass(frozen=True, kw_only=True)
class Overload:
    """Whether requests came faster than they were answered."""

    overloaded: bool  # whether the backlog grew throughout
    offered_per_s: float  # arrivals/s that fell into the window
    finished_per_s: float  # answers/s in the window
    queue_growth: float  # microseconds of queue delay gained per second


def check_percentiles(percents: Sequence[float]) -> tuple[float, ...]:
    """Return the percentiles, each once, or raise UsageError for one outside 0 to 100."""
    for percent in percents:
        if not 0 <= percent <= 100:
            raise UsageError(f"--percentiles holds {percent:g}; allowed: 0 to 100")
    return tuple(dict.fromkeys(percents))


@functools.cache
def count_needed(percent: float) -> int:
    """How many samples a percentile needs to be trusted: 64 for p90, 130 for p95, 662 for p99.

    Source: MLPerf Inference LoadGen, early stopping: the smallest n with
    ``p^n + n (1 - p) p^(n - 1) <= 0.01``, for p or, below the median, 1 - p.
    """
    share = max(percent, 100 - percent) / 100
    if share >= 1:
        return 1  # the smallest or largest of what was seen is just that
    count = 1
    while share**count + count * (1 - share) * share ** (count - 1) > _MISTRUST:
        # Far away from the answer grow in steps, for p99.99 and beyond.
        count += max(1, count // 1000)
    return count


def nearest_rank(ordered: npt.NDArray[np.int64], percent: float) -> int:
    """The smallest of ascending samples, at least one, that at least ``percent`` percent of them do not exceed."""
    # Rounded before ceil: 55 percent of 100 is 55, although 0.55 * 100 is 55.000000000000007.
    rank = math.ceil(round(percent * len(ordered) / 100, 9))
    return int(ordered[max(rank, 1) - 1])


def spread(durations: Times, percents: Sequence[float]) -> Spread:
    """Summarise durations in ns; with none, every figure is NaN."""
    ordered, count = np.sort(durations), len(durations)

    def find(percent: float) -> Percentile:
        value, needed = nearest_rank(ordered, percent) / 1000 if count else math.nan, count_needed(percent)
        return Percentile(percent=percent, value_us=value, trusted=count >= needed, needed=needed)

    return Spread(
        count=count,
        mean_us=float(ordered.mean()) / 1000 if count else math.nan,
        min_us=int(ordered[0]) / 1000 if count else math.nan,
        max_us=int(ordered[-1]) / 1000 if count else math.nan,
        percentiles=tuple(map(find, percents)),
    )


def summarise(trace: Trace, begin: int, end: int, percents: Sequence[float]) -> Window:
    """What happened between two moments (ns): the requests that finished after ``begin`` and not after ``end``.

    The load must have been on before and after, or the edges are not like the middle.
    """
    inside = slice_finished(trace, begin, end)
    seconds = (end - begin) / NS
    service = trace.finished[inside] - trace.started[inside]
    rate = len(service) / seconds if seconds > 0 else math.nan
    # Every request adds the part of its service that lies between the two moments, finished there or not.
    area = np.minimum(trace.finished, end) - np.maximum(trace.started, begin)
    return Window(
        seconds=seconds,
        requests=len(service),
        requests_per_s=rate,
        response=spread(trace.finished[inside] - trace.intended[inside], percents),
        service=spread(service, percents),
        queue=spread(trace.started[inside] - trace.intended[inside], percents),
        in_flight=float(np.maximum(area, 0).sum()) / NS / seconds if seconds > 0 else math.nan,
        little=rate * float(service.mean()) / NS if len(service) else 0.0,
    )


def slice_finished(trace: Trace, begin: int, end: int) -> slice:
    """The rows of a trace that finished after ``begin`` and not after ``end``."""
    low, high = np.searchsorted(trace.finished, [begin, end], side="right")
    return slice(int(low), int(high))


def detect_overload(trace: Trace, arrivals: Times, begin: int, end: int, *, places: int) -> Overload:
    """Tell whether an open loop was offered more, in ascending arrivals (ns), than was answered.

    Overloaded when answers fell behind arrivals by over 2% and by more than what is in flight (``places``) and a
    Poisson count's own unevenness explain, and the queue delay of the window's last quarter exceeds that of its first
    by more than a service time: a backlog that grows, not a burst that passes.
    """
    seconds = (end - begin) / NS
    offered = int(np.searchsorted(arrivals, end, side="right") - np.searchsorted(arrivals, begin, side="right"))
    inside = slice_finished(trace, begin, end)
    finished = inside.stop - inside.start
    queue = (trace.started[inside] - trace.intended[inside]).astype(np.float64)
    quarter = max(finished // 4, 1)
    grown = float(np.median(queue[-quarter:]) - np.median(queue[:quarter])) if finished else 0.0
    service = float((trace.finished[inside] - trace.started[inside]).mean()) if finished else 0.0
    behind = offered - finished > max(0.02 * offered, places + math.sqrt(offered))
    return Overload(
        overloaded=behind and (finished == 0 or grown > service),
        offered_per_s=offered / seconds,
        finished_per_s=finished / seconds,
        queue_growth=grown / 1000 / (0.75 * seconds),
    )


def find_agreement(rates: Sequence[float], tolerance: float, *, counts: Sequence[int] | None = None) -> bool:
    """Whether the last three windows' rates lie within a tolerance (0.03 for 3%) of their mean.

    For random arrivals give the requests in each window: two standard deviations of a Poisson count are then allowed
    beside the tolerance, since windows of an uneven load cannot be expected to agree better.
    """
    last = rates[-3:]
    if len(last) < 3:
        return False
    mean = sum(last) / 3
    noise = 0.0 if counts is None else 2 / math.sqrt(min(counts[-3:]))
    return mean > 0 and max(abs(rate - mean) for rate in last) <= (tolerance + noise) * mean
