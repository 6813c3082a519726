"""The records of a profile: what was requested, what was in use, and what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from clipworks.environment import Environment
from clipworks.profiling.statistics import Overload, Window

PROFILE_FORMAT = 1
SLOWER = 0.97
"""Below so many times f32's speed a precision is called slower: what is nearer may be noise."""
Target = Literal["image", "text", "pipeline"]
Stop = Literal["stable", "overloaded", "time is up", "count reached", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Load:
    """How requests are sent and how long."""

    depth: int = 1  # requests in flight for each instance; 0 sends them one after another
    iterations: int = 100  # at least so many requests are measured; with a duration of 0, exactly so many
    duration_s: float = 5.0  # at least so many seconds are measured, then on until stable
    # at most so many seconds, stable or not; None for six times the duration, or no limit without one
    timeout_s: float | None = None
    warmup_s: float = 1.0  # seconds of full load before the measured ones, thrown away
    # the last three windows' rates must lie within this share of their mean; in an open loop the arrivals' own
    # unevenness is allowed beside it
    tolerance: float = 0.03
    percentiles: tuple[float, ...] = (50, 90, 95, 99)  # 0 to 100
    rate: float | None = None  # requests/s for an open loop; None for a closed one
    seed: int = 0  # of the arrivals and of the choice of inputs

    @property
    def limit_s(self) -> float:
        """Seconds after which the measuring ends whatever has been measured."""
        if self.timeout_s is not None:
            return self.timeout_s
        return 6 * self.duration_s or math.inf


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage of the pipeline: mean microseconds a request and its share of the whole."""

    name: str
    mean_us: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """One load, measured once."""

    window: Window  # the figures
    stop: Stop  # why it ended
    windows_per_s: tuple[float, ...]  # the rate of each stretch that stability was judged by
    places: int  # requests that were to be in flight in all: instances of all devices times the depth, at least 1
    overload: Overload | None = None  # for an open loop
    # median time by which the generator itself was late where a place was free, in an open loop
    lag_us: float | None = None
    stages: tuple[StageTime, ...] = ()  # of the pipeline, within the window
    # raw samples: start of each measured request after the window's begin; empty unless kept
    started_us: tuple[float, ...] = ()
    response_us: tuple[float, ...] = ()  # raw samples: its response time; empty unless kept

    @property
    def overloaded(self) -> bool:
        """Whether requests of an open loop came faster than they were answered."""
        return self.overload is not None and self.overload.overloaded


@dataclass(frozen=True, kw_only=True)
class Cold:
    """The start of the first instance."""

    import_ms: float  # import the runtime; about 0 when this process had it already
    # bring the tower's file into the runtime; None for a runtime that does it together with compiling
    read_ms: float | None
    compile_ms: float  # compile it (no compiled cache is used)
    first_call_us: float  # the first request

    @property
    def open_ms(self) -> float:
        """Read and compile together: what compares between runtimes that tell them apart and those that do not."""
        return (self.read_ms or 0.0) + self.compile_ms


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How near the profiled configuration comes to f32 on the same inputs."""

    reference: str  # runtime and precision of the reference
    count: int  # inputs compared
    cosine_min: float  # smallest cosine between the two embeddings of one input
    cosine_median: float  # their median
    top1_agreement: float  # share of inputs whose best match in the other pool is the same


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One configuration, measured."""

    format: int = PROFILE_FORMAT  # version of this record
    target: Target  # what was timed
    model: str  # the card's name
    card_sha256: str  # names the bundle
    runtime: str  # in use
    devices: tuple[str, ...]  # in use, one for each requested
    precision: str  # in use
    why: str | None = None  # what ``auto`` went by where the runtime or the precision was left to it; else None
    instruction_set: str | None = None  # that the runtime's kernels are of; None where it does not say
    threads: int | None  # CPU threads of each instance, in use; None where the runtime does not say
    batch_size: int  # images or texts in a request
    instances: int  # compiled encoders for each device
    input: str  # ``host``: each request hands over a numpy batch; ``device``: batches lie where the runtime wants them
    inputs: str  # what the pool was made of
    load: Load  # as asked for
    cold: Cold  # apart from everything else
    runs: tuple[Run, ...]  # repeats, in the order they were run
    parity: Parity | None = None  # where it was checked
    # how many times as fast as f32 on the same runtime, calls in turn; None for f32 itself, and where it was not
    # measured
    times_f32: float | None = None
    peak_memory_mib: float | None  # of the whole process since its start
    partial: bool  # whether Ctrl-C cut it short
    environment: Environment  # the machine, looked at before anything was opened
    measured_at: str  # when that was, UTC, ISO 8601

    @property
    def run(self) -> Run:
        """The run with the median throughput, the one to quote; one that was cut short only where there is no other."""
        whole = [run for run in self.runs if run.stop != "interrupted"] or list(self.runs)
        ordered = sorted(whole, key=lambda run: run.window.requests_per_s)
        return ordered[(len(ordered) - 1) // 2]

    def samples_per_s(self, run: Run | None = None) -> float:
        """Images or texts a second of a run, else of the one to quote."""
        return (run or self.run).window.requests_per_s * self.batch_size
