"""A process of its own that opens one row and says what that took; `clipworks.comparison.speeds` starts it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import threading

from clipworks.comparison.figures import Footprint, TowerStart
from clipworks.comparison.speeds import TOWERS
from clipworks.environment import measure_peak_memory
from clipworks.options import RuntimeOptions
from clipworks.profiling.profile import Load
from clipworks.profiling.profiler import Bench
from clipworks.profiling.setup import Setup

_BRIEF = Load(depth=0, iterations=3, duration_s=0.0, warmup_s=0.0)


def measure(model: str, options: RuntimeOptions, *, offline: bool) -> Footprint:
    """Open both towers one after the other, keep them, and encode a few batches."""
    before, starts = measure_peak_memory(), []
    with contextlib.ExitStack() as opened:
        for tower in TOWERS:
            setup = Setup(target=tower, model=model, options=options, devices=(options.device,), offline=offline)
            bench = opened.enter_context(contextlib.closing(Bench(setup)))
            bench.measure(_BRIEF)
            files = bench.bundle.card.towers["int8" if options.precision == "int8" else "f32"]
            name = files.image if tower == "image" else files.text
            size = sum(path.stat().st_size for path in bench.bundle.folder.glob(f"{name}*"))
            starts.append(TowerStart(tower=tower, file_bytes=size, cold=bench.cold))
        return Footprint(towers=tuple(starts), before_memory_mib=before, peak_memory_mib=measure_peak_memory())


def end_with_parent() -> None:
    """End this process when the one that started it has gone: its end of our standard input is closed then."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    model, options, offline = json.loads(sys.argv[1])
    print(json.dumps(dataclasses.asdict(measure(model, RuntimeOptions(**options), offline=offline))))
