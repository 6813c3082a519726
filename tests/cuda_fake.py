"""A CUDA device that is none, for what PyTorch is asked to do with one: everything is computed on the CPU.

What crosses between host and device does so late: a batch is garbage on the device until somebody waits for the copy's
stream, rows are garbage on the host until somebody waits for the computing. Capturing a graph computes nothing that
lasts; replaying it does every operation again, in the memory of the capture. So numbers that are right through this
were waited for wherever they must be. What it cannot show: kernels, memory, speed.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GARBAGE = 171


class FakeStream:
    """What was sent and not yet waited for."""

    def __init__(self, cuda: FakeCuda, pointer: int) -> None:
        self.cuda, self.cuda_stream = cuda, pointer
        self.late: list[Callable[[], Any]] = []

    def wait_stream(self, other: FakeStream) -> None:
        """As PyTorch's; what was sent to the other one is done at once."""
        self.cuda.log.append(f"{self.cuda_stream} waits for {other.cuda_stream}")
        other.finish()

    def synchronize(self) -> None:
        """As PyTorch's."""
        self.cuda.log.append(f"host waits for {self.cuda_stream}")
        self.finish()

    def finish(self) -> None:
        """Do what is late."""
        with torch.inference_mode():
            while self.late:
                self.late.pop(0)()


class FakeGraph(TorchDispatchMode):  # type: ignore[misc,unused-ignore]  # Any without PyTorch
    """Operations with the tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Callable[[], Any], list[Tensor]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        given = {item.untyped_storage().data_ptr() for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)}
        fresh = [item for item in tree_leaves(made) if item.untyped_storage().data_ptr() not in given]
        self.steps.append((lambda: function(*args, **kwargs), fresh))
        return made

    def replay(self) -> None:
        """Do it all again; what an operation made again goes where the capture had it."""
        with torch.inference_mode():
            for again, fresh in self.steps:
                made = [item for item in tree_leaves(again()) if fresh]
                for old, new in zip(fresh, made, strict=True):
                    old.copy_(new)

    def spoil(self) -> None:
        """A capture computes nothing."""
        for _, fresh in self.steps:
            for tensor in fresh:
                tensor.fill_(GARBAGE)


class FakeCuda:
    """The device: ``devices`` of them, each with ``streams`` of each priority that come round again.

    Attributes:
        log: what was done, in order.
        failing: raised by the next of these: ``copy``, ``compute``, ``capture``, ``pin``.
    """

    def __init__(self, *, devices: int = 2, streams: int = 32) -> None:
        self.devices, self.streams = devices, streams
        self.log: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.graphs = 0
        self._local = threading.local()
        self._counts = {0: itertools.count(), -1: itertools.count()}
        self._capturing: dict[int, int] = {}

    def open_stream(self, device: object = None, priority: int = 0) -> FakeStream:  # noqa: ARG002
        """As ``torch.cuda.Stream``."""
        return FakeStream(self, 1000 + 100 * priority + next(self._counts[priority]) % self.streams)

    @property
    def current(self) -> FakeStream:
        """This thread's."""
        stream: FakeStream = self._local.stream
        return stream

    @contextlib.contextmanager
    def enter_stream(self, stream: FakeStream) -> Iterator[None]:
        """As ``torch.cuda.stream``."""
        owner = self._capturing.get(stream.cuda_stream, threading.get_ident())
        assert owner == threading.get_ident(), f"stream {stream.cuda_stream} is being captured by another thread"
        before = getattr(self._local, "stream", None)
        self._local.stream = stream
        try:
            yield
        finally:
            self._local.stream = before

    @contextlib.contextmanager
    def capture(
        self, graph: FakeGraph, pool: object = None, stream: FakeStream | None = None, capture_error_mode: str = ""
    ) -> Iterator[None]:
        """As ``torch.cuda.graph``."""
        assert stream is not None
        assert capture_error_mode == "thread_local"  # others may allocate meanwhile
        assert pool is not None
        assert not self._capturing, "PyTorch allows one capture at a time in a process"
        self.fail("capture")
        self._capturing[stream.cuda_stream] = threading.get_ident()
        try:
            with self.enter_stream(stream), graph:
                yield
            graph.spoil()
            self.graphs += 1
            self.log.append(f"captured on {stream.cuda_stream}")
        finally:
            del self._capturing[stream.cuda_stream]

    def fail(self, what: str) -> None:
        """Raise what the test has put here."""
        if what in self.failing:
            raise self.failing.pop(what)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put this in PyTorch's place."""
        for name, value in {
            "is_available": lambda: True,
            "device_count": lambda: self.devices,
            "get_device_capability": lambda _=None: (9, 0),
            "Stream": self.open_stream,
            "stream": self.enter_stream,
            "device": lambda _: contextlib.nullcontext(),
            "CUDAGraph": FakeGraph,
            "graph": self.capture,
            "graph_pool_handle": object,
            "empty_cache": lambda: self.log.append("cache emptied"),
        }.items():
            patch.setattr(torch.cuda, name, value)
        for name in ("empty", "zeros"):
            patch.setattr(torch, name, self._make_allocator(getattr(torch, name)))
        patch.setattr(Tensor, "to", self._make_to(Tensor.to))
        patch.setattr(Tensor, "copy_", self._make_copy(Tensor.copy_))
        patch.setattr(Tensor, "record_stream", lambda _, stream: self.log.append(f"kept for {stream.cuda_stream}"))

    def _make_allocator(self, real: Any) -> Any:
        def allocate(*size: Any, pin_memory: bool = False, device: Any = None, **options: Any) -> Tensor:
            if pin_memory:
                assert str(device) == "cpu"  # a default device of the user's must not matter
                self.fail("pin")
            made: Tensor = real(*size, **options)
            return made

        return allocate

    def _make_to(self, real: Any) -> Any:
        def to(tensor: Tensor, *args: Any, non_blocking: bool = False, **options: Any) -> Tensor:
            args = tuple(torch.device("cpu") if isinstance(arg, torch.device) else arg for arg in args)
            if not non_blocking:
                moved: Tensor = real(tensor, *args, **options)
                return moved
            self.fail("copy")
            arrived = torch.full_like(tensor, GARBAGE)
            self.current.late.append(lambda: arrived.copy_(tensor))
            self.log.append(f"to the device on {self.current.cuda_stream}")
            return arrived

        return to

    def _make_copy(self, real: Any) -> Any:
        def copy(target: Tensor, source: Tensor, *, non_blocking: bool = False) -> Tensor:
            if not non_blocking:
                written: Tensor = real(target, source)
                return written
            self.fail("compute")
            content = source.clone()
            target.fill_(GARBAGE)
            self.current.late.append(lambda: real(target, content))
            self.log.append(f"to the host on {self.current.cuda_stream}")
            return target

        return copy
