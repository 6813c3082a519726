"""One measurement: warm up, go on until the windows agree or the time is up, and cut out what counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clipworks.errors import UsageError
from clipworks.profiling import statistics
from clipworks.profiling.clock import NS, Clock, MonotonicClock
from clipworks.profiling.load import Call, Progress, Trace, draw_arrivals, run_closed, run_open
from clipworks.profiling.records import Load, Run, Stop

# A window's rate means little below this many requests: it is stretched until it holds them.
_WINDOW_REQUESTS = 20
_WINDOWS = 5
_TICKS_PER_WINDOW = 4

Report = Callable[[float, float | None], None]
"""Told now and then: the seconds gone by, and the rate of the last whole window (None before the first)."""


def check_load(load: Load) -> None:
    """Raise UsageError for a load that cannot be run; the message names the option and what is allowed."""
    if load.depth < 0:
        raise UsageError(f"--depth is {load.depth}; allowed: 0 (one after another) or more")
    if load.iterations < 0:
        raise UsageError(f"--iterations is {load.iterations}; allowed: 0 (no minimum) or more")
    for name, value in (
        ("duration", load.duration_s),
        ("warmup", load.warmup_s),
        ("timeout", load.timeout_s),
        ("tolerance", load.tolerance),
    ):
        if not 0 <= value < float("inf"):
            raise UsageError(f"--{name} is {value:g}; allowed: 0 or more")
    if load.iterations == 0 and load.duration_s == 0:
        raise UsageError("--iterations and --duration are both 0; at least one must be above 0")
    if load.timeout_s < load.duration_s:
        raise UsageError(f"--timeout is {load.timeout_s:g}; allowed: --duration ({load.duration_s:g}) or more")
    statistics.check_percentiles(load.percentiles)
    if load.rate is not None and not 0 < load.rate < float("inf"):
        raise UsageError(f"--rate is {load.rate:g}; allowed: above 0 requests/s")


def measure(
    calls: Sequence[Call],
    load: Load,
    *,
    clock: Clock | None = None,
    report: Report | None = None,
    keep_samples: bool = False,
) -> Run:
    """Send a load to servers and say what happened.

    Args:
        calls: one for each instance.
        load: how, and how long.
        clock: the time to live by; None for the system's monotonic clock.
        report: told of the progress.
        keep_samples: keep every request's times in the record.

    Returns:
        The figures of the measured window, warm-up left out. When Ctrl-C ended it, those of what was measured by then.

    Raises:
        UsageError: the load cannot be run.
        EncodingError: a call failed.
    """
    check_load(load)
    clock = clock or MonotonicClock()
    watch = _Watch(load, places=len(calls) * max(load.depth, 1), report=report)
    if load.rate is None:
        trace = run_closed(calls, depth=load.depth, clock=clock, watch=watch, interval_s=watch.interval_s)
        arrivals = None
    else:
        seconds = load.warmup_s + load.timeout_s + 1
        offsets = draw_arrivals(load.rate, seconds, load.seed)
        trace = run_open(
            calls, offsets, depth=max(load.depth, 1), clock=clock, watch=watch, interval_s=watch.interval_s
        )
        arrivals = offsets + trace.begin
    begin = watch.begin if watch.begin is not None else trace.begin
    # From an answer on, not from somewhere between two: half a request at the edge would count for nothing.
    before = int(np.searchsorted(trace.finished, begin, side="right"))
    begin = int(trace.finished[before - 1]) if before else begin
    end = trace.end
    if load.duration_s == 0:
        # Exactly as many as asked for: the window ends with the last of them.
        first = statistics.slice_finished(trace, begin, end).start
        last = min(first + load.iterations, len(trace)) - 1
        end = int(trace.finished[last]) if last >= first else end
    window = statistics.summarise(trace, begin, end, load.percentiles)
    inside = statistics.slice_finished(trace, begin, end)
    return Run(
        window=window,
        stop="interrupted" if trace.interrupted else watch.stop,
        windows_per_s=tuple(watch.rates),
        places=len(calls) * max(load.depth, 1),
        overload=None if arrivals is None else statistics.detect_overload(trace, arrivals, begin, end),
        lag_us=None if arrivals is None else _median_lag(trace, inside),
        started_us=tuple(((trace.started[inside] - begin) / 1000).tolist()) if keep_samples else (),
        response_us=tuple(((trace.finished - trace.intended)[inside] / 1000).tolist()) if keep_samples else (),
    )


class _Watch:
    """Decides at every tick whether the load goes on, from counts alone."""

    def __init__(self, load: Load, *, places: int, report: Report | None) -> None:
        self.load = load
        self.stop: Stop = "time is up"
        self.begin: int | None = None
        self.rates: list[float] = []
        self.window_s = (load.duration_s or load.timeout_s or 1.0) / _WINDOWS
        self.interval_s = min(self.window_s / _TICKS_PER_WINDOW, 0.25)
        self._places = places
        self._report = report
        self._first = 0
        self._mark = (0, 0)
        self._counts: list[int] = []

    def __call__(self, progress: Progress) -> bool:
        if self._report is not None:
            self._report(progress.elapsed_s, self.rates[-1] if self.rates else None)
        if self.begin is None:
            # Warm when the time is over and every place has answered at least once on average.
            if progress.elapsed_s < self.load.warmup_s or progress.finished < self._places:
                return progress.elapsed_s < self.load.warmup_s + self.load.timeout_s
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
            return True
        enough = measured_s >= self.load.duration_s and count >= self.load.iterations
        if enough and statistics.find_agreement(
            self.rates, self.load.tolerance, counts=self._counts if self.load.rate is not None else None
        ):
            self.stop = "stable"
            return False
        return measured_s < self.load.timeout_s

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
