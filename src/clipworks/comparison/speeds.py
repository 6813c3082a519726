"""Speed of rows, measured in turn and repeated, so that a machine whose pace changes favours none of them."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from clipworks.cards import read_record
from clipworks.comparison.figures import Footprint, Latency, Repeated, Speed, Tower
from clipworks.errors import EncodingError
from clipworks.profiling.profiler import Bench
from clipworks.profiling.records import Load, Profile
from clipworks.profiling.setup import Setup

TOWERS: tuple[Tower, ...] = ("image", "text")


@dataclass(kw_only=True)
class Runs:
    """The profiles of one row: by tower and place of the load, with the round of each."""

    found: dict[tuple[Tower, int], list[tuple[int, Profile]]] = field(default_factory=dict)

    @property
    def threads(self) -> int | None:
        """CPU threads as the engine told them."""
        return next((profile.threads for runs in self.found.values() for _, profile in runs), None)

    def add(self, tower: Tower, place: int, number: int, profile: Profile) -> None:
        """Keep one measurement."""
        self.found.setdefault((tower, place), []).append((number, profile))


def measure_once(setup: Setup, tower: Tower, loads: Sequence[tuple[int, Load]], runs: Runs, number: int) -> bool:
    """Measure one tower of a row under every load; the engine is opened for it and closed again.

    Reopening costs a second or so a time, and keeps one engine in memory, however many rows there are.

    Returns:
        Whether all of it was measured; Ctrl-C ends it early.
    """
    for place, (batch_size, load) in enumerate(loads):
        bench = Bench(_with(setup, tower, batch_size), seed=load.seed)
        try:
            profile = bench.measure(load)
        finally:
            bench.close()
        if profile.partial:
            return False
        runs.add(tower, place, number, profile)
    return True


def summarise_speeds(runs: Runs, reference: Runs | None, loads: Sequence[tuple[int, Load]]) -> tuple[Speed, ...]:
    """Medians and spreads over the rounds, image before text; ratios are taken round by round."""
    speeds = []
    for tower in TOWERS:
        for place, (batch_size, load) in enumerate(loads):
            own = runs.found.get((tower, place), [])
            if not own:
                continue
            rates = {number: _rate(profile) for number, profile in own}
            theirs = {} if reference is None else dict(reference.found.get((tower, place), []))
            ratios = [rates[number] / _rate(theirs[number]) for number in rates if number in theirs]
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
                        Latency(
                            percent=item.percent,
                            us=_repeat([window.percentiles[index].value_us for window in windows]),
                            trusted=all(window.percentiles[index].trusted for window in windows),
                        )
                        for index, item in enumerate(windows[0].percentiles)
                    ),
                    rounds=tuple(rates),
                    runs=tuple(profile.run for _, profile in own),
                )
            )
    return tuple(speeds)


def measure_footprint(setup: Setup) -> Footprint:
    """Open both towers in a fresh process, without a compiled cache, and see what it takes.

    Raises:
        EncodingError: the process failed; the message is its last line.
    """
    words = [setup.model, setup.runtime, setup.devices[0], setup.precision, setup.threads, setup.offline]
    done = subprocess.run(
        [sys.executable, "-m", "clipworks.comparison.footprint", json.dumps(words)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise EncodingError(f"a process of its own failed: {lines[-1] if lines else done.returncode}")
    return read_record(Footprint, json.loads(done.stdout.splitlines()[-1]), "footprint")


def _with(setup: Setup, tower: Tower, batch_size: int) -> Setup:
    return dataclasses.replace(setup, target=tower, batch_size=batch_size)


def _rate(profile: Profile) -> float:
    return profile.run.window.requests_per_s * profile.batch_size


def _repeat(values: list[float]) -> Repeated:
    return Repeated(median=statistics.median(values), low=min(values), high=max(values))
