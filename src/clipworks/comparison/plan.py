"""What a comparison is to be made of."""

from __future__ import annotations

from dataclasses import dataclass

from clipworks.options import DEFAULT_RUNTIME_OPTIONS, ImageOptions, RuntimeOptions
from clipworks.profiling.profile import Load


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to compare.

    Attributes:
        runtimes: names; every one is tried with every device and precision.
        options: of the runtimes, the same for every row: threads and the like.
        reference: the runtime whose f32 is the reference, one of ``runtimes`` or not; None for the first of them that
            has f32.
        limit: images at most; None for all.
        loads: batch size and load of each measurement.
        repeats: rounds of the speed measurement, at least 1; 0 measures no speed.
        footprint: whether load time and memory are measured, in a process for each row.
    """

    models: tuple[str, ...]
    runtimes: tuple[str, ...]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS
    reference: str | None
    templates: tuple[str, ...]
    images: ImageOptions
    limit: int | None
    loads: tuple[tuple[int, Load], ...]
    repeats: int
    footprint: bool
    offline: bool
