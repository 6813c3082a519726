"""The PyTorch runtime: converted towers, run on CUDA devices, Apple's GPUs or the CPU."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.options import AUTO
from clipworks.runtimes import EMBEDDING, Batch, EncoderRequest, Opening, Staged, forking
from clipworks.runtimes.protocol import elapsed_ms
from clipworks.runtimes.registry import list_defaults
from clipworks.runtimes.torch.devices import KINDS, choose_device, choose_precision, free_cache, name_f32_spoiler
from clipworks.runtimes.torch.lanes import CudaLane, Lane, PlainLane
from clipworks.runtimes.torch.loading import load_tower
from clipworks.runtimes.torch.towers import ImageTower, TextTower
from clipworks.towers.files import read_tower


class TorchEncoder:
    """A tower on a device; each call takes its own lane (stream, buffers) from a pool."""

    runtime = "torch"
    why: str | None = None
    instruction_set: str | None = None

    def __init__(self, tower: ImageTower | TextTower, *, device: torch.device, precision: str, dim: int) -> None:
        self.device = str(device)
        self.precision = self.floats = precision
        self.dim = dim
        self.opening = Opening(read_ms=None, compile_ms=0.0)
        self.packs = isinstance(tower, TextTower) and tower.packs
        self.threads = torch.get_num_threads() if device.type == "cpu" else None
        self._place = device
        self._tower: ImageTower | TextTower | None = tower
        self._lock = threading.Lock()
        self._idle: list[Lane] = []
        self._home = forking.guard(self)
        weakref.finalize(self, _close_lanes, self._idle, self._home)

    def __call__(self, batch: Batch | Staged) -> npt.NDArray[np.float32]:
        """Encode one batch; see `clipworks.runtimes.Encoder`."""
        forking.check(self._home, self.runtime)
        rows = batch.rows if isinstance(batch, Staged) else len(batch)
        if rows == 0 and self._tower is not None:
            return np.empty((0, self.dim), dtype=np.float32)
        if self.precision == "f32" and (spoiler := name_f32_spoiler(self._place)):
            raise EncodingError(
                f"f32 is in use, but this process has set {spoiler}, which computes products more coarsely",
                hint="leave PyTorch's own setting for f32 products, or ask for bf16 or f16",
            )
        with self._lane(rows) as lane:
            return lane.run(batch.handle if isinstance(batch, Staged) else batch)

    def stage(self, batch: Batch) -> Staged:
        """Put a batch in the device's memory."""
        with self._lane(len(batch)) as lane:
            return Staged(handle=lane.stage(batch), rows=len(batch))

    def watch(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        """Encode a batch, one operator after another, and keep what is inside; see `clipworks.runtimes.probes`."""
        found: dict[str, npt.NDArray[Any]] = {}

        def note(name: str, value: Tensor) -> None:
            found[name] = np.array(value.float().cpu().numpy())

        with torch.inference_mode(), self._lane(len(batch)):
            assert self._tower is not None  # or there would be no lane
            embedding = self._tower(torch.from_numpy(np.array(batch)).to(self._place), note)
        return {**found, EMBEDDING: embedding.cpu().numpy()}

    def close(self) -> None:
        """Free the weights, and what the lanes hold; calls that are under way come to their end first.

        In a forked process nothing is freed, since it cannot be.
        """
        if os.getpid() != self._home:
            return
        with self._lock:
            self._tower = None
            _close_lanes(self._idle, self._home)
        free_cache(self._place)

    @contextlib.contextmanager
    def _lane(self, rows: int) -> Iterator[Lane]:
        """A lane for one call with so many rows; one whose call fails does not come back."""
        lane = self._take()
        try:
            # Another's autocast would change what is computed here.
            with torch.autocast(self._place.type, enabled=False) if _is_cast(self._place) else contextlib.nullcontext():
                yield lane
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # or what is told would keep what the call had in memory
            lane.close()  # it may hold half a batch, or memory that others need
            if isinstance(error, RuntimeError | MemoryError):
                raise self._explain(error, rows) from None
            raise
        with self._lock:
            if self._tower is not None:
                self._idle.append(lane)
                return
        lane.close()
        free_cache(self._place)

    def _take(self) -> Lane:
        """The lane that this thread had last, else the one that has waited longest, else a new one."""
        forking.check(self._home, self.runtime)
        thread = threading.get_ident()
        with self._lock:
            if self._tower is None:
                raise EncodingError("this encoder is closed")
            if self._idle:
                lane = self._idle.pop(next((i for i, lane in enumerate(self._idle) if lane.thread == thread), 0))
                lane.thread = thread
                return lane
            tower = self._tower
        try:
            return CudaLane(tower, self._place) if self._place.type == "cuda" else PlainLane(tower, self._place)
        except RuntimeError as error:
            raise self._explain(error, 0) from None

    def _explain(self, error: Exception, rows: int) -> EncodingError:
        text = str(error).strip().partition("\n")[0]
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
            sign in text.lower() for sign in ("out of memory", "can't allocate memory", "not enough memory")
        )
        if not short:
            return EncodingError(f"torch failed on a batch of {rows}: {text or type(error).__name__}")
        free_cache(self._place)
        return EncodingError(
            f"{self.device} has not enough memory for a batch of {rows}", hint="try a smaller --batch-size"
        )


def open_encoder(request: EncoderRequest) -> TorchEncoder:
    """Bring a tower to a device; see `clipworks.runtimes.open_encoder`.

    Threads are PyTorch's own setting of the whole process, so ``threads`` changes them for all of its CPU encoders.
    """
    forking.enter("torch")
    device = choose_device(request.options.device)
    if request.tower.stored != "f32":
        raise RuntimeUnavailableError(
            f"torch runs no {request.tower.stored} towers", hint=f"--runtime {' and '.join(list_defaults())} run them"
        )
    choice = choose_precision(device, request.options.precision)
    if request.options.threads is not None and device.type == "cpu":
        torch.set_num_threads(request.options.threads)
    start = time.perf_counter()
    weights = read_tower(request.tower)
    read_ms, start = elapsed_ms(start), time.perf_counter()
    try:
        with torch.inference_mode():
            tower = load_tower(weights, device, KINDS[choice.precision])
    except RuntimeError as error:
        raise EncodingError(
            f"torch cannot load {request.tower.path.name}: {str(error).partition(chr(10))[0]}"
        ) from None
    encoder = TorchEncoder(tower, device=device, precision=choice.precision, dim=request.tower.dim)
    encoder.opening = Opening(read_ms=read_ms, compile_ms=elapsed_ms(start))
    encoder.why = choice.reason if request.options.precision == AUTO else None
    return encoder


def _close_lanes(lanes: list[Lane], home: int) -> None:
    while lanes and os.getpid() == home:
        lanes.pop().close()


def _is_cast(device: torch.device) -> bool:
    return device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type)
