"""Load: requests sent to a server in a closed or an open loop, each with the times that tell the truth about it.

The generator only records. Which requests count, and what follows from them, is decided afterwards by
`clipworks.profiling.statistics` from the recorded times alone.
"""

from __future__ import annotations

import itertools
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipworks.errors import UsageError
from clipworks.profiling.clock import NS, Clock, live_by, sharpen_timer

_STEP = NS // 10

Times = npt.NDArray[np.int64]
Call = Callable[[int], None]
"""Sends request number i and returns when its answer is there."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The times of every finished request, in ns of the clock, in order of finishing.

    Attributes:
        intended: int64 ``[n]``, when the request should have started: in a closed loop when it did.
        started: int64 ``[n]``, when it was sent.
        finished: int64 ``[n]``, when its answer was there.
        begin: when the generator started.
        end: when it was told to stop: requests that finish later are not in a full load any more.
        interrupted: whether Ctrl-C ended it.
    """

    intended: Times
    started: Times
    finished: Times
    begin: int
    end: int
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.finished)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a watcher is told while the load runs; cheap to make, so that watching does not disturb.

    Attributes:
        finished: requests finished so far.
        time: of the clock, in ns.
        elapsed_s: since the start.
    """

    finished: int
    time: int
    elapsed_s: float


Watch = Callable[[Progress], bool]
"""Called at every interval; returns whether to go on."""


def run_closed(calls: Sequence[Call], *, depth: int, clock: Clock, watch: Watch, interval_s: float) -> Trace:
    """Keep exactly ``depth`` requests in flight for each of several servers, until the watcher says stop.

    Args:
        calls: one for each server (instance).
        depth: requests in flight for each; 0 means one after another, called without a second thread in between.
        clock: the time to live by.
        watch: asked every ``interval_s`` whether to go on.
        interval_s: seconds.

    Returns:
        Every request, those from before the load was full and after the stop too.

    Raises:
        UsageError: a depth below 0, or no server.
        Exception: whatever a call raised first; the load stops.
    """
    if depth < 0:
        raise UsageError(f"depth is {depth}; allowed: 0 (one after another) or more")
    numbers = itertools.count()  # next() on it is atomic

    def follow(call: Call, record: _Record, stop: threading.Event) -> None:
        now, stopped = clock.now, stop.is_set
        intended, started, finished = record.intended.append, record.started.append, record.finished.append
        while not stopped():
            number = next(numbers)
            start = now()
            call(number)
            finish = now()
            intended(start)
            started(start)
            finished(finish)

    return _run([call for call in calls for _ in range(max(depth, 1))], follow, clock, watch, interval_s)


def run_open(
    calls: Sequence[Call],
    arrivals: Times,
    *,
    depth: int,
    clock: Clock,
    watch: Watch,
    interval_s: float,
) -> Trace:
    """Send requests at given times, whatever the servers do; those that find no free place wait, and that counts.

    Args:
        calls: one for each server (instance).
        arrivals: int64 ``[n]``, ns after the start, ascending: when each request is intended to start.
        depth: places (requests in flight) for each server, at least 1.
        clock: the time to live by.
        watch: asked every ``interval_s`` whether to go on.
        interval_s: seconds.

    Returns:
        Every request that was sent; the backlog that is left when the watcher says stop is not.

    Raises:
        UsageError: a depth below 1, or no server.
        Exception: whatever a call raised first; the load stops.
    """
    if depth < 1:
        raise UsageError(f"depth is {depth}; an open loop needs 1 or more")
    numbers = itertools.count()
    times = arrivals.tolist()  # Python's own integers are quicker to take one by one
    origin = [0]

    def follow(call: Call, record: _Record, stop: threading.Event) -> None:
        sharpen_timer()
        now, sleep_until, stopped, begin = clock.now, clock.sleep_until, stop.is_set, origin[0]
        intended, started, finished = record.intended.append, record.started.append, record.finished.append
        for number in numbers:
            if number >= len(times) or stopped():
                return
            due = begin + times[number]
            while (wait := due - now()) > 0:
                # In steps, so that a stop between two rare arrivals is heard.
                sleep_until(due if wait <= _STEP else due - wait + _STEP)
                if stopped():
                    return
            start = now()
            call(number)
            finish = now()
            intended(due)
            started(start)
            finished(finish)

    return _run([call for _ in range(depth) for call in calls], follow, clock, watch, interval_s, set_begin=origin)


def draw_arrivals(rate: float, seconds: float, seed: int) -> Times:
    """Poisson arrivals.

    Args:
        rate: mean requests/s, above 0.
        seconds: how long to go on.
        seed: the same seed gives the same arrivals.

    Returns:
        int64 ``[n]`` ns from 0, ascending.

    Raises:
        UsageError: a rate that is not above 0.
    """
    if not rate > 0:
        raise UsageError(f"rate is {rate:g}; allowed: above 0 requests/s")
    rng = np.random.default_rng(seed)
    count = int(rate * seconds + 6 * np.sqrt(rate * seconds) + 16)
    times = np.cumsum(rng.exponential(1 / rate, count))
    return np.rint(times[times <= seconds] * NS).astype(np.int64)


class _Record:
    """The requests of one thread; plain arrays, so that nothing is shared and no lock is taken."""

    def __init__(self) -> None:
        self.intended, self.started, self.finished = array("q"), array("q"), array("q")


def _run(
    places: Sequence[Call],
    follow: Callable[[Call, _Record, threading.Event], None],
    clock: Clock,
    watch: Watch,
    interval_s: float,
    set_begin: list[int] | None = None,
) -> Trace:
    """Start one thread for each place at one barrier, ask the watcher at every interval, stop and collect."""
    if not places:
        raise UsageError("no server to send requests to; at least one is needed")
    stop = threading.Event()
    barrier = threading.Barrier(len(places) + 1)
    records = [_Record() for _ in places]
    failures: list[BaseException] = []

    def work(call: Call, record: _Record) -> None:
        barrier.wait()
        with live_by(clock):
            try:
                follow(call, record, stop)
            # Handed to the caller's thread, which raises it; a thread of its own would only print it.
            except BaseException as error:  # noqa: BLE001
                failures.append(error)
                stop.set()

    clock.join(len(places) + 1)
    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in zip(places, records, strict=True)]
    for thread in threads:
        thread.start()
    begin = clock.now()
    if set_begin is not None:
        set_begin[0] = begin
    interrupted = False
    with live_by(clock):
        try:
            barrier.wait()
            tick = begin
            going = True
            while going and not stop.is_set() and any(thread.is_alive() for thread in threads):
                tick += round(interval_s * NS)
                clock.sleep_until(tick)
                now = clock.now()
                count = sum(len(record.finished) for record in records)
                going = watch(Progress(finished=count, time=now, elapsed_s=(now - begin) / NS))
        except KeyboardInterrupt:  # what was measured so far is worth having
            interrupted = True
        finally:
            end = clock.now()
            stop.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    intended, started, finished = (
        np.concatenate([np.array(getattr(record, name), dtype=np.int64) for record in records])
        for name in ("intended", "started", "finished")
    )
    order = np.argsort(finished, kind="stable")
    return Trace(
        intended=intended[order],
        started=started[order],
        finished=finished[order],
        begin=begin,
        end=end,
        interrupted=interrupted,
    )
