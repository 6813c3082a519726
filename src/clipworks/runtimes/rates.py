"""Measured rates: how quickly each precision of a runtime computes a tower's layer on this machine.

Measured where the table in `clipworks.runtimes.choice` says nothing, and for ``clipworks devices``; kept in the cache
under the processor's name and all else that a rate depends on.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from clipworks import interrupts
from clipworks.cache import open_folder, read_checked, write_checked
from clipworks.errors import ClipworksError
from clipworks.options import RuntimeOptions
from clipworks.processor import count_cores, describe_processor, find_onednn_ceiling
from clipworks.runtimes.drawn_tower import OPERATIONS, SIZE, write_tower
from clipworks.runtimes.protocol import EncoderRequest
from clipworks.runtimes.registry import find_version, import_runtime

_SECONDS = 0.2  # of each precision, at the least
_FEWEST = 5  # calls of each precision
_KEPT = 64
_FORMAT = 3  # of what is measured; another tower needs another number
_IMAGES = 8  # a call: 400 rows, as a batch of any size is computed in parts of about that many
_lock = threading.Lock()
_measured: dict[str, dict[str, float]] = {}


def measure_rates(
    runtime: str, precisions: Sequence[str], *, again: bool = False, opened: Callable[[str], None] | None = None
) -> dict[str, float]:
    """How quickly a runtime computes a layer of ViT-B's width on the CPU in each precision.

    The precisions take turns and the best call of each counts, so that other work on the machine spoils little.

    Args:
        runtime: name.
        precisions: what to measure; those that cannot be opened are left out.
        again: measure also what is kept from an earlier time.
        opened: told of the precision that is being prepared, for a progress line.

    Returns:
        10^9 operations/s by precision.
    """
    with _lock:  # both towers of a model may ask at once
        key = _name_rates(runtime, precisions)
        folder = open_folder("rates")
        path = None if folder is None else folder / f"{key}.json"
        if not again:
            if key in _measured:
                return _measured[key]
            if path is not None and (body := read_checked(path)) is not None:
                _measured[key] = json.loads(body)
                return _measured[key]
        import_runtime(runtime)  # here: two threads that import can lock each other out
        # In a thread of its own: OpenVINO lays a stack for signals under the thread that runs a model. Freed in another
        # order than they were made, models leave the thread with a stack that is gone, and the next signal kills.
        with ThreadPoolExecutor(1) as pool:
            _measured[key] = pool.submit(_measure, runtime, precisions, opened).result()
        if path is not None:
            write_checked(path, json.dumps(_measured[key]).encode(), keep=_KEPT)
        return _measured[key]


def _name_rates(runtime: str, precisions: Sequence[str]) -> str:
    processor = describe_processor()
    facts = [processor.name, processor.instruction_sets, find_onednn_ceiling(), count_cores()]
    key = json.dumps([_FORMAT, *facts, runtime, find_version(runtime), list(precisions)])
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _measure(runtime: str, precisions: Sequence[str], opened: Callable[[str], None] | None) -> dict[str, float]:
    calls: dict[str, Callable[[], object]] = {}
    with TemporaryDirectory(prefix="clipworks-") as folder, interrupts.removing(folder):
        for precision in precisions:
            if opened is not None:
                opened(precision)
            try:
                calls[precision] = _open_tower(runtime, precision, Path(folder))
            except ClipworksError:
                continue  # not available after all: who names it is told why
    best = dict.fromkeys(calls, float("inf"))
    spent, count = 0.0, 0
    for call in calls.values():
        call()
    while calls and (count < _FEWEST or spent < _SECONDS * len(calls)):
        count += 1
        for precision, call in calls.items():
            start = time.perf_counter()
            call()
            seconds = time.perf_counter() - start
            best[precision] = min(best[precision], seconds)
            spent += seconds
    return {precision: _IMAGES * OPERATIONS / seconds / 1e9 for precision, seconds in best.items()}


def _open_tower(runtime: str, precision: str, folder: Path) -> Callable[[], object]:
    """A call of a runtime's encoder on the CPU."""
    options = RuntimeOptions(runtime=runtime, device="cpu", precision=precision)
    request = EncoderRequest(tower=write_tower(folder, int8=precision == "int8"), options=options)
    encoder = import_runtime(runtime).open_encoder(request)
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    return lambda: encoder(images)
