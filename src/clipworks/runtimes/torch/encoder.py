"""The PyTorch runtime: towers of our own, run on CUDA devices, Apple's GPUs or the CPU."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.runtimes import Batch, EncoderRequest, Opening, Role, Staged
from clipworks.runtimes.torch.devices import KINDS, choose_device, choose_precision
from clipworks.runtimes.torch.lanes import CudaLane, Lane, PlainLane, Tower
from clipworks.runtimes.torch.loading import load_tower
from clipworks.runtimes.weights import ImageWeights, TextWeights, read_image_weights, read_text_weights

_READERS: dict[Role, Callable[[Path], ImageWeights | TextWeights]] = {
    "image": read_image_weights,
    "text": read_text_weights,
}


class TorchEncoder:
    """A tower on a device; each call takes its own lane (stream, buffers) from a pool."""

    runtime = "torch"

    def __init__(
        self, tower: Tower, *, device: torch.device, precision: str, shares_prefix: bool, dim: int, opening: Opening
    ) -> None:
        self.device = str(device)
        self.precision = precision
        self.dim = dim
        self.opening = opening
        self.shares_prefix = shares_prefix
        self.threads = torch.get_num_threads() if device.type == "cpu" else None
        self._place = device
        self._tower: Tower | None = tower
        self._idle: deque[Lane] = deque()

    def __call__(self, batch: Batch | Staged) -> npt.NDArray[np.float32]:
        """Encode one batch; see `clipworks.runtimes.Encoder`."""
        rows = batch.rows if isinstance(batch, Staged) else len(batch)
        if self._tower is None:
            raise EncodingError("this encoder is closed")
        if rows == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        if self.precision == "f32" and self.device.startswith("cuda") and torch.backends.cuda.matmul.allow_tf32:
            raise EncodingError(
                "f32 was granted, but this process has turned on TF32, which computes products in 10 bits",
                hint="torch.backends.cuda.matmul.allow_tf32 = False",
            )
        lane = self._take()
        try:
            embeddings = lane.run(batch.handle if isinstance(batch, Staged) else batch)
        except (RuntimeError, MemoryError) as error:
            del lane  # it may hold half a batch, or memory that others need: it does not go back
            raise self._explain(error, rows) from None
        self._idle.append(lane)
        return embeddings

    def stage(self, batch: Batch) -> Staged:
        """Put a batch in the device's memory."""
        lane = self._take()
        try:
            return Staged(handle=lane.stage(batch), rows=len(batch))
        except (RuntimeError, MemoryError) as error:
            raise self._explain(error, len(batch)) from None
        finally:
            self._idle.append(lane)

    def close(self) -> None:
        """Free the weights, and what the lanes hold."""
        self._idle.clear()
        self._tower = None
        if self._place.type == "cuda":
            torch.cuda.empty_cache()

    def _take(self) -> Lane:
        if self._tower is None:
            raise EncodingError("this encoder is closed")
        try:  # deque's pop and append are atomic: no lock needed
            return self._idle.pop()
        except IndexError:
            make = CudaLane if self._place.type == "cuda" else PlainLane
            return make(self._tower, self._place)

    def _explain(self, error: Exception, rows: int) -> EncodingError:
        text = str(error).strip().partition("\n")[0]
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text
        if not short:
            return EncodingError(f"torch failed on a batch of {rows}: {text}")
        if self._place.type == "cuda":
            torch.cuda.empty_cache()
        return EncodingError(
            f"{self.device} has not enough memory for a batch of {rows}", hint="try a smaller --batch-size"
        )


def open_encoder(request: EncoderRequest) -> TorchEncoder:
    """Bring a tower to a device; see `clipworks.runtimes.open_encoder`.

    Threads are PyTorch's own setting of the whole process, so ``threads`` changes them for all of its CPU encoders.
    """
    device = choose_device(request.device)
    if request.stored != "f32":
        raise RuntimeUnavailableError(
            f"torch runs no {request.stored} towers", hint="--runtime openvino and onnxruntime run them"
        )
    precision = choose_precision(device, request.precision)
    if request.threads is not None and device.type == "cpu":
        torch.set_num_threads(request.threads)
    start = time.perf_counter()
    weights = _READERS[request.role](request.path)
    read_ms, start = _since(start), time.perf_counter()
    try:
        with torch.inference_mode():
            tower = load_tower(weights, device, KINDS[precision])
    except RuntimeError as error:
        raise EncodingError(f"torch cannot load {request.path.name}: {str(error).partition(chr(10))[0]}") from None
    return TorchEncoder(
        tower,
        device=device,
        precision=precision,
        # Graphs of fixed shapes run whole texts; without them the common beginning is computed once.
        shares_prefix=request.role == "text" and device.type != "cuda",
        dim=request.dim,
        opening=Opening(read_ms=read_ms, compile_ms=_since(start)),
    )


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
