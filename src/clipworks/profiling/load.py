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

MAX_RATE = 1e6
MAX_PLACES = 1024  # threads that one process can be expected to start
_STEP = NS // 10
_BLOCK = 4096

Times = npt.NDArray[np.int64]
Call = Callable[[int], None]
"""Sends request number i and returns when its answer is there."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The times of every finished request, in ns of the clock, in order of finishing."""

    intended: Times  # int64 ``[n]``, when the request should have started: in a closed loop when it did
    started: Times  # int64 ``[n]``, when it was sent
    finished: Times  # int64 ``[n]``, when its answer was there
    begin: int  # when the generator started
    end: int  # when it was told to stop: requests that finish later are not in a full load any more
    interrupted: bool = False  # whether Ctrl-C ended it

    def __len__(self) -> int:
        return len(self.finished)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a watcher is told while the load runs; cheap to make, so that watching does not disturb."""

    finished: int  # requests finished so far
    time: int  # of the clock, in ns
    elapsed_s: float  # since the start


Watch = Callable[[Progress], bool]
"""Called at every interval; returns whether to go on."""


class Arrivals:
    """Poisson arrivals, drawn block by block as they are asked for; the same seed gives the same arrivals."""

    def __init__(self, rate: float, seed: int) -> None:
        """Start at 0 with ``rate`` requests/s, above 0 and at most `MAX_RATE`; raises UsageError otherwise."""
        if not 0 < rate <= MAX_RATE:
            raise UsageError(f"--rate is {rate:g}; allowed: above 0 and up to {MAX_RATE:,.0f} requests/s")
        self._mean_ns = NS / rate
        self._rng = np.random.default_rng(seed)
        self._times: list[int] = []
        self._last = 0.0
        self._lock = threading.Lock()

    def at(self, number: int) -> int:
        """When request ``number`` is due, in ns after the start."""
        while number >= len(self._times):
            self._draw()
        return self._times[number]

    def until(self, end: int) -> Times:
        """All arrivals up to ``end`` ns after the start: int64 ``[n]``, ascending."""
        while not self._times or self._times[-1] <= end:
            self._draw()
        times = np.array(self._times, dtype=np.int64)
        return times[: np.searchsorted(times, end, side="right")]

    def _draw(self) -> None:
        with self._lock:
            times = self._last + np.cumsum(self._rng.exponential(self._mean_ns, _BLOCK))
            self._last = float(times[-1])
            # Python's own integers are quicker to take one by one.
            self._times += np.rint(times).astype(np.int64).tolist()


class _ThreadTimes:
    """The requests of one thread; plain arrays, so that nothing is shared and no lock is taken."""

    def __init__(self) -> None:
        self.intended, self.started, self.finished = array("q"), array("q"), array("q")


def run_load(
    calls: Sequence[Call],
    *,
    depth: int,
    clock: Clock,
    watch: Watch,
    interval_s: float,
    arrivals: Arrivals | None = None,
) -> Trace:
    """Send requests until the watcher says stop, each place with a thread of its own.

    A closed loop keeps exactly ``depth`` requests in flight for each server, or for 0 sends one after another. An open
    one sends them at given times, whatever the servers do; those that find no free place wait, and that counts.

    Returns:
        Every request, those from before the load was full and after the stop too; of an open loop's, what was sent.

    Raises:
        UsageError: a depth that does not go, no server, or too many places.
        Exception: whatever a call raised first; the load stops.
    """
    if depth < 0:
        raise UsageError(f"depth is {depth}; allowed: 0 (one after another) or more")
    if arrivals is not None and depth < 1:
        raise UsageError(f"depth is {depth}; an open loop needs 1 or more")
    places = [call for _ in range(max(depth, 1)) for call in calls]
    numbers = itertools.count()  # next() on it is atomic

    def follow(call: Call, record: _ThreadTimes, begin: int, stop: threading.Event) -> None:
        now, sleep_until, stopped = clock.now, clock.sleep_until, stop.is_set
        due_at = None if arrivals is None else arrivals.at
        intended, started, finished = record.intended.append, record.started.append, record.finished.append
        if due_at is not None:
            sharpen_timer()
        for number in numbers:
            due = None if due_at is None else begin + due_at(number)
            while due is not None and not stopped() and (wait := due - now()) > 0:
                # In steps, so that a stop between two rare arrivals is heard.
                sleep_until(due if wait <= _STEP else due - wait + _STEP)
            if stopped():
                return
            start = now()
            call(number)
            finish = now()
            intended(start if due is None else due)
            started(start)
            finished(finish)

    return _run(places, follow, clock, watch, interval_s)


def _run(
    places: Sequence[Call],
    follow: Callable[[Call, _ThreadTimes, int, threading.Event], None],
    clock: Clock,
    watch: Watch,
    interval_s: float,
) -> Trace:
    """Start one thread for each place at one barrier, ask the watcher at every interval, stop and collect."""
    if not 1 <= len(places) <= MAX_PLACES:
        raise UsageError(f"there are {len(places)} requests to keep in flight; allowed: 1 to {MAX_PLACES:,}")
    stop, barrier = threading.Event(), threading.Barrier(len(places) + 1)
    records = [_ThreadTimes() for _ in places]
    failures: list[BaseException] = []
    begin = 0

    def work(call: Call, record: _ThreadTimes) -> None:
        with live_by(clock):
            try:
                barrier.wait()
                follow(call, record, begin, stop)
            except threading.BrokenBarrierError:  # the start was given up
                pass
            # Handed to the caller's thread, which raises it; a thread of its own would only print it.
            except BaseException as error:  # noqa: BLE001
                failures.append(error)
                stop.set()

    clock.join(len(places) + 1)
    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in zip(places, records, strict=True)]
    begin = clock.now()
    interrupted = False
    with live_by(clock):
        try:
            for thread in threads:
                thread.start()
            begin = clock.now()
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
            barrier.abort()  # nobody is left waiting for a start that did not come
    for thread in threads:
        if thread.ident is not None:
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
