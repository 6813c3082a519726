"""Lanes: what one call needs for itself on a device, so that several calls can run at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipworks.runtimes import Batch

Tower = Callable[[Tensor], Tensor]

# Captured graphs take memory each and pay where the device waits for the launches of small kernels, not beyond.
_COUNTS = (1, 2, 4, 8, 16)
_LENGTHS = (8, 12, 16, 24, 32, 48, 64)
_capturing = threading.Lock()


class Lane(Protocol):
    """One call at a time."""

    def stage(self, batch: Batch) -> Tensor:
        """Bring a batch to the device; it is there when this returns."""
        ...

    def run(self, batch: Batch | Tensor) -> npt.NDArray[np.float32]:
        """Embed a batch, or one that was staged; the result is on the host, whole, when this returns."""
        ...


class PlainLane:
    """A lane of a device that orders its own work: the CPU, MPS."""

    def __init__(self, tower: Tower, device: torch.device) -> None:
        self._tower, self._device = tower, device

    def stage(self, batch: Batch) -> Tensor:
        """See `Lane`."""
        # A tensor shares an array's memory; PyTorch wants it writeable, as Pillow's is not.
        return torch.from_numpy(np.require(batch, requirements=("C", "W"))).to(self._device)

    def run(self, batch: Batch | Tensor) -> npt.NDArray[np.float32]:
        """See `Lane`."""
        with torch.inference_mode():
            ready = batch if isinstance(batch, Tensor) else self.stage(batch)
            rows: npt.NDArray[np.float32] = self._tower(ready).cpu().numpy()  # waits for the device
        return rows


class CudaLane:
    """A lane of a CUDA device: a stream for the copies, one for the computing, pinned memory, captured graphs.

    Bytes go from pinned memory to the device on the copying stream, while other lanes compute. Small batches run as
    CUDA graphs of a few fixed shapes, filled up to the next: of the rows that are filled up, nothing is given back.
    """

    def __init__(self, tower: Tower, device: torch.device, *, capture: bool = True) -> None:
        self._tower, self._device, self._capture = tower, device, capture
        self._copying, self._computing = (
            torch.cuda.Stream(device)  # type: ignore[no-untyped-call,unused-ignore]  # typed in stubs of some versions
            for _ in range(2)
        )
        self._pinned: Tensor | None = None
        self._results: Tensor | None = None
        self._graphs: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle() if capture else None

    def stage(self, batch: Batch) -> Tensor:
        """See `Lane`."""
        ready = self._copy(batch)
        self._copying.synchronize()
        return ready

    def run(self, batch: Batch | Tensor) -> npt.NDArray[np.float32]:
        """See `Lane`."""
        with torch.inference_mode(), torch.cuda.device(self._device):
            ready = batch if isinstance(batch, Tensor) else self._copy(batch)
            self._computing.wait_stream(self._copying)
            with torch.cuda.stream(self._computing):
                ready.record_stream(self._computing)
                rows = self._compute(ready)
                if self._results is None or self._results.numel() < rows.numel():
                    self._results = torch.empty(rows.numel(), dtype=torch.float32, pin_memory=True)
                host = self._results[: rows.numel()].view(rows.shape)
                host.copy_(rows, non_blocking=True)
            self._computing.synchronize()
            # The pinned memory is used again by the next call: the result must be a copy.
            return np.array(host.numpy(), dtype=np.float32)

    def _copy(self, batch: Batch) -> Tensor:
        """Bytes to pinned memory, and from there to the device on the copying stream."""
        array = np.ascontiguousarray(batch)
        kind = torch.uint8 if array.dtype == np.uint8 else torch.int32
        if self._pinned is None or self._pinned.numel() < array.nbytes:
            self._pinned = torch.empty(array.nbytes, dtype=torch.uint8, pin_memory=True)
        pinned = self._pinned[: array.nbytes].view(kind).view(array.shape)
        np.copyto(pinned.numpy(), array)
        with torch.cuda.device(self._device), torch.cuda.stream(self._copying):
            return pinned.to(self._device, non_blocking=True)

    def _compute(self, ready: Tensor) -> Tensor:
        shape = round_shape(tuple(ready.shape)) if self._capture else None
        if shape is None:
            return self._tower(ready)
        if shape not in self._graphs:
            self._graphs[shape] = self._record(shape, ready.dtype)
        graph, entry, rows = self._graphs[shape]
        entry[tuple(slice(side) for side in ready.shape)].copy_(ready)
        if ready.ndim == 2:  # a longer text of the last call may still stand behind the ids; the first end counts
            entry[: len(ready), ready.shape[1] :].zero_()
        graph.replay()
        return rows[: len(ready)]

    def _record(self, shape: tuple[int, ...], kind: torch.dtype) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """Capture the tower for one shape, on the computing stream."""
        entry = torch.zeros(shape, dtype=kind, device=self._device)
        graph = torch.cuda.CUDAGraph()
        with _capturing:  # one capture at a time in the process; other lanes may go on computing
            for _ in range(3):  # libraries set themselves up in their first calls, which a capture cannot hold
                self._tower(entry)
            self._computing.synchronize()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._computing, capture_error_mode="thread_local"):
                rows = self._tower(entry)
        return graph, entry, rows


def round_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The captured shape that a batch is filled up to: ``[n, size, size, 3]`` or ``[n, length]``; None for none."""
    count = next((size for size in _COUNTS if size >= shape[0]), None)
    if count is None:
        return None
    if len(shape) > 2:
        return count, *shape[1:]
    length = next((size for size in _LENGTHS if size >= shape[1]), None)
    return None if length is None else (count, length)
