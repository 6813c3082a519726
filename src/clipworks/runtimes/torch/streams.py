"""Streams of CUDA devices that no two lanes share.

PyTorch has a few dozen streams a device and hands them out in turn, the same ones again when it is through. Two lanes
on one stream would be worse than slow: what one of them sends would be taken into a graph that the other captures, and
the products of all graphs captured on a stream share one workspace, which goes with the first of them. So a lane
that captures has a stream to itself as long as it lives, and all of its graphs go with it.
"""

from __future__ import annotations

import threading

import torch

_ROUND = 32
"""Streams that PyTorch has for each device and priority."""

_lock = threading.Lock()
_taken: set[tuple[str, int]] = set()


def take_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream that nobody has who took theirs here; None when there is none left."""
    with _lock:
        for _ in range(_ROUND):
            stream = open_stream(device)
            key = (str(device), stream.cuda_stream)
            if key not in _taken:
                _taken.add(key)
                return stream
    return None


def return_stream(device: torch.device, stream: torch.cuda.Stream) -> None:
    """Leave a stream of `take_stream` to others; its graphs must be gone."""
    with _lock:
        _taken.discard((str(device), stream.cuda_stream))


def open_shared_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream that others may have too, but none that `take_stream` gives: PyTorch keeps priorities apart."""
    return open_stream(device, priority=-1)


def open_stream(device: torch.device, *, priority: int = 0) -> torch.cuda.Stream:
    """The next one of PyTorch's."""
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call,unused-ignore]  # typed in some
