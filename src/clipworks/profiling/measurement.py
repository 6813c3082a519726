"""One measurement: warm up, go on until the windows agree or the time is up, and cut out what counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clipworks.errors import MeasurementError, UsageError
from clipworks.profiling import statistics
from clipworks.profiling.clock import NS, Clock, MonotonicClock
from clipworks.profiling.load import Arrivals, Call, Progress, Trace, run_load
from clipworks.profiling.profile import Load, Run, StageTime, Stop

# A window's rate means little below this many requests: it is stretched until it holds them.
_WINDOW_REQUESTS = 20
_WINDOWS = 5
_LONGEST_S = 1e6
_TICKS_PER_WINDOW = 4

Report = Callable[[float, float | None], None]
"""Told now and then: the seconds gone by, and the rate of the last whole window (None before the first)."""
SummariseStages = Callable[[int, int], tuple[StageTime, ...]]


def check_load(load: Load) -> None:
    """Raise UsageError for a load that cannot be run; the message names the option and what is allowed."""
    if load.depth < 0:
        raise UsageError(f"--depth is {load.depth}; allowed: 0 (one after another) or more")
    if load.iterations < 0:
        raise UsageError(f"--iterations is {load.iterations}; allowed: 0 (no minimum) or more")
    for name, value in (
        ("duration", load.duration_s),
        ("warmup", load.warmup_s),
        ("timeout", load.timeout_s or 0.0),
        ("tolerance", load.tolerance),
    ):
        if not 0 <= value <= _LONGEST_S:
            raise UsageError(f"--{name} is {value:g}; allowed: 0 to {_LONGEST_S:,.0f}")
    if load.iterations == 0 and load.duration_s == 0:
        raise UsageError("--iterations and --duration are both 0; at least one must be above 0")
    if load.timeout_s is not None and not 0 < load.timeout_s >= load.duration_s:
        raise UsageError(f"--timeout is {load.timeout_s:g}; allowed: --duration ({load.duration_s:g}) or more, above 0")
    statistics.check_percentiles(load.percentiles)
    if load.rate is not None:
        Arrivals(load.rate, load.seed)


def measure(
    calls: Sequence[Call],
    load: Load,
    *,
    clock: Clock | None = None,
    report: Report | None = None,
    keep_samples: bool = False,
    summarise_stages: SummariseStages | None = None,
) -> Run:
    """Send a load to servers, each a call, and say what happened in the measured window, warm-up left out.

    Ctrl-C ends it with the figures of what was measured by then. ``summarise_stages`` is, of servers that time their
    stages, what they say of the time between two moments in ns.

    Raises:
        UsageError: the load cannot be run.
        MeasurementError: nothing was answered, or too little to warm up.
        EncodingError: a call failed.
    """
    check_load(load)
    clock = clock or MonotonicClock()
    places = len(calls) * max(load.depth, 1)
    watch = _Watch(load, places=places, report=report)
    arrivals = None if load.rate is None else Arrivals(load.rate, load.seed)
    depth = load.depth if arrivals is None else max(load.depth, 1)
    trace = run_load(calls, depth=depth, clock=clock, watch=watch, interval_s=watch.interval_s, arrivals=arrivals)
    begin, end = _find_window(trace, watch, load)
    inside = statistics.slice_finished(trace, begin, end)
    if inside.start == inside.stop:
        if trace.interrupted:
            raise KeyboardInterrupt
        raise MeasurementError(
            f"no request was answered in the {(end - begin) / NS:g} s after warm-up",
            hint="raise --duration and --timeout, or lower --batch-size",
        )
    overload = None
    if arrivals is not None:
        times = arrivals.until(trace.end - trace.begin) + trace.begin
        overload = statistics.detect_overload(trace, times, begin, end, places=places)
    stop: Stop = "interrupted" if trace.interrupted else watch.stop
    if overload is not None and overload.overloaded and stop == "stable":
        stop = "overloaded"  # answers come at a steady rate, but the queue does not stay as it is
    return Run(
        window=statistics.summarise(trace, begin, end, load.percentiles),
        stop=stop,
        windows_per_s=tuple(watch.rates),
        places=places,
        overload=overload,
        lag_us=None if arrivals is None else _median_lag(trace, inside),
        stages=() if summarise_stages is None else summarise_stages(begin, end),
        started_us=tuple(((trace.started[inside] - begin) / 1000).tolist()) if keep_samples else (),
        response_us=tuple(((trace.finished - trace.intended)[inside] / 1000).tolist()) if keep_samples else (),
    )


def _find_window(trace: Trace, watch: _Watch, load: Load) -> tuple[int, int]:
    """The measured stretch: from an answer to an answer, since a part of a request at an edge counts for nothing.

    In an open loop it ends when the load does: a standstill there belongs to what was measured.
    """
    if watch.begin is None:
        if trace.interrupted:
            raise KeyboardInterrupt
        answered = int(np.searchsorted(trace.finished, trace.end, side="right"))
        raise MeasurementError(
            f"{answered} requests were answered in {(trace.end - trace.begin) / NS:g} s, too few to warm up with "
            f"{watch.places} in flight",
            hint="raise --timeout, or lower --batch-size or --depth",
        )
    before = int(np.searchsorted(trace.finished, watch.begin, side="right"))
    begin = int(trace.finished[before - 1]) if before else watch.begin
    if load.duration_s == 0:
        last = min(before + load.iterations, len(trace)) - 1
    else:
        last = int(np.searchsorted(trace.finished, trace.end, side="right")) - 1
    if last < before or (load.rate is not None and load.duration_s > 0):
        return begin, trace.end
    return begin, int(trace.finished[last])


class _Watch:
    """Decides at every tick whether the load goes on, from counts alone."""

    def __init__(self, load: Load, *, places: int, report: Report | None) -> None:
        self.load = load
        self.stop: Stop = "time is up"
        self.begin: int | None = None
        self.rates: list[float] = []
        self.window_s = (load.duration_s or 1.0) / _WINDOWS
        self.interval_s = min(self.window_s / _TICKS_PER_WINDOW, 0.25)
        self.places = places
        self._report = report
        self._first = 0
        self._mark = (0, 0)
        self._counts: list[int] = []

    def __call__(self, progress: Progress) -> bool:
        if self._report is not None:
            self._report(progress.elapsed_s, self.rates[-1] if self.rates else None)
        if self.begin is None:
            # A closed loop is warm when every place has answered once on average; an open one may never fill them.
            needed = self.places if self.load.rate is None else 0
            if progress.elapsed_s < self.load.warmup_s or progress.finished < needed:
                return progress.elapsed_s < self.load.warmup_s + self.load.limit_s
            self.begin, self._first = progress.time, progress.finished
            self._mark = (progress.time, progress.finished)
            return True
        self._close_window(progress)
        measured_s = (progress.time - self.begin) / NS
        count = progress.finished - self._first
        if self.load.duration_s == 0:
            if count >= self.load.iterations:
                self.stop = "count reached"
                return False
            return measured_s < self.load.limit_s
        enough = measured_s >= self.load.duration_s and count >= self.load.iterations
        if enough and statistics.find_agreement(
            self.rates, self.load.tolerance, counts=self._counts if self.load.rate is not None else None
        ):
            self.stop = "stable"
            return False
        return measured_s < self.load.limit_s

    def _close_window(self, progress: Progress) -> None:
        since, finished = self._mark
        seconds = (progress.time - since) / NS
        if seconds >= self.window_s - 1e-9 and progress.finished - finished >= _WINDOW_REQUESTS:
            self.rates.append((progress.finished - finished) / seconds)
            self._counts.append(progress.finished - finished)
            self._mark = (progress.time, progress.finished)


def _median_lag(trace: Trace, inside: slice) -> float | None:
    """How late the generator itself was, in us, for requests that found a place free: timer and thread wake-up."""
    queue = (trace.started - trace.intended)[inside]
    # A request that waited for a place started right after another finished; those that did not only waited for us.
    previous = np.concatenate([[trace.begin], trace.finished])[np.searchsorted(trace.finished, trace.started[inside])]
    free = previous <= trace.intended[inside]
    return float(np.median(queue[free])) / 1000 if free.any() else None
