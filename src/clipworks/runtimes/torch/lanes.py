"""Lanes: what one call needs for itself on a device, so that several calls can run at once."""

from __future__ import annotations

import contextlib
import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipworks.runtimes import Batch
from clipworks.runtimes.torch.streams import open_shared_stream, return_stream, take_stream

# Captured graphs take memory each and pay where the device waits for the launches of small kernels, not beyond.
_COUNTS = (1, 2, 4, 8, 16)
_LENGTHS = (8, 12, 16, 24, 32, 48, 64)
# A larger batch goes in parts, so that the next part is copied while this one is computed; each fills the device.
_PART = 256
_capturing = threading.Lock()


class Tower(Protocol):
    """A tower on its device.

    Attributes:
        context: the longest text in tokens; None for images.
    """

    @property
    def context(self) -> int | None: ...  # noqa: D102  # told above

    def __call__(self, batch: Tensor, /) -> Tensor:
        """Embed a batch; both are on the device."""
        ...


class Lane(Protocol):
    """One call at a time."""

    thread: int  # the thread that had it last; libraries keep memory for each pair of a thread and a stream

    def stage(self, batch: Batch) -> Tensor:
        """Bring a batch to the device; it is there when this returns."""
        ...

    def run(self, batch: Batch | Tensor) -> npt.NDArray[np.float32]:
        """Embed a batch, or one that was staged; the result is on the host, whole, when this returns."""
        ...

    def close(self) -> None:
        """Leave what it holds, whatever state a failed call has left it in."""
        ...


class PlainLane:
    """A lane of a device that orders its own work: the CPU, MPS."""

    def __init__(self, tower: Tower, device: torch.device) -> None:
        self.thread = threading.get_ident()
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

    def close(self) -> None:
        """See `Lane`: it holds nothing."""


class CudaLane:
    """A lane of a CUDA device: a stream for the copies, one for the computing, pinned memory, captured graphs.

    Bytes go from pinned memory to the device on the copying stream, while other lanes, or the part before, compute.
    Small batches run as CUDA graphs of a few fixed shapes, filled up to the next: of the rows that are filled up,
    nothing is given back.
    """

    def __init__(self, tower: Tower, device: torch.device, *, capture: bool = True) -> None:
        self.thread = threading.get_ident()
        self._tower, self._device = tower, device
        own = take_stream(device) if capture else None
        self._own, self._computing = own, own or open_shared_stream(device)
        self._copying = open_shared_stream(device)
        self._pinned: Tensor | None = None
        self._results: Tensor | None = None
        self._graphs: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle() if own else None

    def stage(self, batch: Batch) -> Tensor:
        """See `Lane`."""
        with torch.inference_mode():
            ready = self._copy(batch, self._pin(batch))
        self._copying.synchronize()
        return ready

    def run(self, batch: Batch | Tensor) -> npt.NDArray[np.float32]:
        """See `Lane`."""
        with torch.inference_mode(), torch.cuda.device(self._device):
            if isinstance(batch, Tensor):
                host = self._send(batch, None, rows=len(batch))
            else:
                pinned = self._pin(batch)
                for start in range(0, len(batch), _PART):
                    part = slice(start, start + _PART)
                    ready = self._copy(batch[part], pinned[part])
                    self._computing.wait_stream(self._copying)
                    host = self._send(ready, part, rows=len(batch))
            self._computing.synchronize()
            # The pinned memory is used again by the next call: the result must be a copy.
            return np.array(host.numpy(), dtype=np.float32)

    def close(self) -> None:
        """See `Lane`."""
        for stream in (self._copying, self._computing):
            with contextlib.suppress(RuntimeError):  # a device that has failed fails here again
                stream.synchronize()
        self._graphs.clear()
        self._pinned = self._results = None
        if self._own is not None:
            return_stream(self._device, self._own)
            self._own = None

    def _send(self, ready: Tensor, part: slice | None, *, rows: int) -> Tensor:
        """Send the computing of one part, and the way of its rows to the host; gives back where all rows will be."""
        with torch.cuda.stream(self._computing):
            ready.record_stream(self._computing)  # its memory belongs to the stream of the copy
            found = self._compute(ready)
            size = rows * found.shape[1]
            if self._results is None or self._results.numel() < size:
                self._results = torch.empty(size, dtype=torch.float32, device="cpu", pin_memory=True)
            host = self._results[:size].view(rows, found.shape[1])
            host[part or slice(None)].copy_(found, non_blocking=True)
        return host

    def _pin(self, batch: Batch) -> Tensor:
        """Pinned memory in the form of a batch."""
        kind = torch.uint8 if batch.dtype == np.uint8 else torch.int32
        if self._pinned is None or self._pinned.numel() < batch.nbytes:
            self._pinned = torch.empty(batch.nbytes, dtype=torch.uint8, device="cpu", pin_memory=True)
        return self._pinned[: batch.nbytes].view(kind).view(batch.shape)

    def _copy(self, batch: Batch, pinned: Tensor) -> Tensor:
        """Bytes to pinned memory, and from there to the device on the copying stream."""
        np.copyto(pinned.numpy(), batch)
        with torch.cuda.device(self._device), torch.cuda.stream(self._copying):
            return pinned.to(self._device, non_blocking=True)

    def _compute(self, ready: Tensor) -> Tensor:
        shape = round_shape(tuple(ready.shape), self._tower.context) if self._own is not None else None
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


def round_shape(shape: tuple[int, ...], context: int | None) -> tuple[int, ...] | None:
    """The captured shape that a batch is filled up to.

    Args:
        shape: ``[n, size, size, 3]`` or ``[n, length]``.
        context: the longest text; None for images.

    Returns:
        The shape, or None for a batch that is too large for one.
    """
    count = next((size for size in _COUNTS if size >= shape[0]), None)
    if count is None:
        return None
    if context is None:
        return count, *shape[1:]
    return count, next((size for size in _LENGTHS if shape[1] <= size < context), context)
