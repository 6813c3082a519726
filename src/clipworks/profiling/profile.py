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
    """How requests are sent and how long.

    Attributes:
        depth: requests in flight for each instance; 0 sends them one after another.
        iterations: at least so many requests are measured; with a duration of 0, exactly so many.
        duration_s: at least so many seconds are measured, then on until stable.
        timeout_s: at most so many seconds, stable or not; None for six times the duration, or no limit without one.
        warmup_s: seconds of full load before the measured ones, thrown away.
        tolerance: the last three windows' rates must lie within this share of their mean; in an open loop the
            arrivals' own unevenness is allowed beside it.
        percentiles: 0 to 100.
        rate: requests/s for an open loop; None for a closed one.
        seed: of the arrivals and of the choice of inputs.
    """

    depth: int = 1
    iterations: int = 100
    duration_s: float = 5.0
    timeout_s: float | None = None
    warmup_s: float = 1.0
    tolerance: float = 0.03
    percentiles: tuple[float, ...] = (50, 90, 95, 99)
    rate: float | None = None
    seed: int = 0

    @property
    def limit_s(self) -> float:
        """Seconds after which the measuring ends whatever has been measured."""
        if self.timeout_s is not None:
            return self.timeout_s
        return 6 * self.duration_s or math.inf


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the pipeline: mean microseconds a request and its share of the whole."""

    name: str
    mean_us: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """One load, measured once.

    Attributes:
        window: the figures.
        stop: why it ended.
        windows_per_s: the rate of each stretch that stability was judged by.
        places: requests that were to be in flight in all: instances of all devices times the depth, at least 1.
        overload: for an open loop.
        lag_us: median time by which the generator itself was late where a place was free, in an open loop.
        stages: of the pipeline, within the window.
        started_us: raw samples: start of each measured request after the window's begin; empty unless kept.
        response_us: raw samples: its response time; empty unless kept.
    """

    window: Window
    stop: Stop
    windows_per_s: tuple[float, ...]
    places: int
    overload: Overload | None = None
    lag_us: float | None = None
    stages: tuple[Stage, ...] = ()
    started_us: tuple[float, ...] = ()
    response_us: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cold:
    """The start of the first instance.

    Attributes:
        import_ms: import the runtime; about 0 when this process had it already.
        read_ms: bring the tower's file into the runtime; None for a runtime that does it together with compiling.
        compile_ms: compile it (no compiled cache is used).
        first_call_us: the first request.
    """

    import_ms: float
    read_ms: float | None
    compile_ms: float
    first_call_us: float

    @property
    def open_ms(self) -> float:
        """Read and compile together: what compares between runtimes that tell them apart and those that do not."""
        return (self.read_ms or 0.0) + self.compile_ms


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How near the profiled configuration comes to f32 on the same inputs.

    Attributes:
        reference: runtime and precision of the reference.
        count: inputs compared.
        cosine_min: smallest cosine between the two embeddings of one input.
        cosine_median: their median.
        top1_agreement: share of inputs whose best match in the other pool is the same.
    """

    reference: str
    count: int
    cosine_min: float
    cosine_median: float
    top1_agreement: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One configuration, measured.

    Attributes:
        format: version of this record.
        target: what was timed.
        model: the card's name.
        card_sha256: names the bundle.
        runtime: in use.
        devices: in use, one for each requested.
        precision: in use.
        why: what ``auto`` went by where the runtime or the precision was left to it; else None.
        threads: CPU threads of each instance, in use; None where the runtime does not say.
        batch_size: images or texts in a request.
        instances: compiled encoders for each device.
        input: ``host``: each request hands over a numpy batch; ``device``: batches lie where the runtime wants them.
        inputs: what the pool was made of.
        load: as asked for.
        cold: apart from everything else.
        runs: repeats, in the order they were run.
        parity: where it was checked.
        times_f32: how many times as fast as f32 on the same runtime, calls in turn; None for f32 itself, and where it
            was not measured.
        peak_memory_mib: of the whole process since its start.
        partial: whether Ctrl-C cut it short.
        environment: the machine, looked at before anything was opened.
        measured_at: when that was, UTC, ISO 8601.
    """

    format: int = PROFILE_FORMAT
    target: Target
    model: str
    card_sha256: str
    runtime: str
    devices: tuple[str, ...]
    precision: str
    why: str | None = None
    threads: int | None
    batch_size: int
    instances: int
    input: str
    inputs: str
    load: Load
    cold: Cold
    runs: tuple[Run, ...]
    parity: Parity | None = None
    times_f32: float | None = None
    peak_memory_mib: float | None
    partial: bool
    environment: Environment
    measured_at: str

    @property
    def run(self) -> Run:
        """The run with the median throughput, the one to quote; one that was cut short only where there is no other."""
        whole = [run for run in self.runs if run.stop != "interrupted"] or list(self.runs)
        ordered = sorted(whole, key=lambda run: run.window.requests_per_s)
        return ordered[(len(ordered) - 1) // 2]
