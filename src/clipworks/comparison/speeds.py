"""Speed of rows, measured in turn and repeated, so that a machine whose pace changes favours none of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from clipworks.bundle.records import read_record
from clipworks.comparison.figures import Footprint, Repeated, Speed, Tower
from clipworks.errors import EncodingError
from clipworks.profiling.profile import Load, Profile, Target
from clipworks.profiling.profiler import Bench
from clipworks.profiling.setup import Setup

TOWERS: tuple[Tower, ...] = ("image", "text")
_STEP_S = 0.2
"""Seconds between two looks at whether a process is to be ended."""


# The profiles of one row, each with its round: by tower and place of the load.
Runs = dict[tuple[Target, int], list[tuple[int, Profile]]]
Item = TypeVar("Item")


def order_round(rows: Sequence[Item], number: int, rounds: int) -> list[Item]:
    """The order of one round, from 0: each begins at another place, and every second one goes backwards.

    So no row is always first, none always follows the same other one, and a machine that slows down or speeds up
    meets all of them alike.
    """
    start = number * len(rows) // max(rounds, 1) if rounds <= len(rows) else number % max(len(rows), 1)
    forwards = [*rows[start:], *rows[:start]]
    return [*forwards[:1], *forwards[:0:-1]] if number % 2 else forwards


def measure_once(
    setup: Setup,
    loads: Sequence[tuple[int, Load]],
    runs: Runs,
    number: int,
    say: Callable[[], None] = lambda: None,
) -> None:
    """Measure one tower of a row under every load, in one round; Ctrl-C, or ``say``, may end it: KeyboardInterrupt.

    The encoder is opened for it and closed again: that takes a moment, and keeps one encoder in memory, however many
    rows there are. Threads that would spin on after the last call, as ONNX Runtime's do for a tenth of a second, end
    with their encoder, so no rest is needed between rows.
    """
    with contextlib.closing(Bench(setup, seed=loads[0][1].seed)) as bench:
        for place, (batch_size, load) in enumerate(loads):
            bench.resize(batch_size)
            profile = bench.measure(load, report=lambda elapsed_s, rate: say())  # noqa: ARG005  # the form of a report
            if profile.partial:
                raise KeyboardInterrupt
            runs.setdefault((setup.target, place), []).append((number, profile))


def summarise_speeds(runs: Runs, reference: Runs, loads: Sequence[tuple[int, Load]]) -> tuple[Speed, ...]:
    """Medians and spreads over the rounds, image before text; ratios are taken round by round."""
    speeds = []
    for tower in TOWERS:
        for place, (batch_size, load) in enumerate(loads):
            own = runs.get((tower, place), [])
            if not own:
                continue
            rates = {number: profile.samples_per_s() for number, profile in own}
            theirs = dict(reference.get((tower, place), []))
            ratios = [rates[number] / theirs[number].samples_per_s() for number in rates if number in theirs]
            windows = [profile.run.window.response for _, profile in own]
            speeds.append(
                Speed(
                    tower=tower,
                    batch_size=batch_size,
                    depth=load.depth,
                    inputs=own[0][1].inputs,
                    samples_per_s=_repeat(list(rates.values())),
                    ratio=_repeat(ratios) if ratios else None,
                    mean_us=_repeat([window.mean_us for window in windows]),
                    latency=tuple(
                        dataclasses.replace(
                            items[0],
                            value_us=statistics.median(item.value_us for item in items),
                            trusted=all(item.trusted for item in items),
                        )
                        for items in zip(*(window.percentiles for window in windows), strict=True)
                    ),
                    rounds=tuple(rates),
                    runs=tuple(profile.run for _, profile in own),
                )
            )
    return tuple(speeds)


def measure_footprint(setup: Setup, say: Callable[[], None] = lambda: None) -> Footprint:
    """Open both towers in a fresh process, without a compiled cache, and see what it takes.

    ``say`` is called again and again while it runs; what it raises ends the process. Raises EncodingError with the
    process's last line where it failed.
    """
    words = json.dumps([setup.model, dataclasses.asdict(setup.options), setup.offline])
    status, out, err = _run_process([sys.executable, "-m", "clipworks.comparison.footprint", words], say)
    if status:
        lines = err.strip().splitlines()
        why = f"ended by signal {-status}" if status < 0 else lines[-1] if lines else "it says nothing"
        raise EncodingError(f"the process that opens the row failed: {why}")
    return read_record(Footprint, json.loads(out.splitlines()[-1]), "footprint")


def _run_process(command: Sequence[str], say: Callable[[], None]) -> tuple[int, str, str]:
    """Run a process to its end: status, what it prints and what it prints to stderr.

    Its standard input is a pipe that nothing is written to: it ends when this process does, however that comes about.
    """
    reader, writer = os.pipe()
    try:
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=reader, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        out, err = process.communicate(timeout=_STEP_S)
                        say()  # Ctrl-C in a terminal reaches both processes, and is no failure of the row
                        return process.returncode, out, err
                    say()
            except BaseException:
                process.kill()
                raise
    finally:
        os.close(reader)
        os.close(writer)


def _repeat(values: list[float]) -> Repeated:
    return Repeated(median=statistics.median(values), low=min(values), high=max(values))
