"""An encoder that is recorded and held back, and an event loop whose time is jumped over: batching without waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from clipworks.runtimes.protocol import Role
from clipworks.scoring import Floats
from clipworks.serve.batching import Batcher, Content

Answer = TypeVar("Answer")


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.skipped_s += timeout or 0.0
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.skipped_s


def run_jumping(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run something whose sleeps take no time."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(work)


class RecordedEncoder:
    """Encodes after ``seconds`` of the loop's time, and keeps each batch."""

    def __init__(self, seconds: float = 1.0, fail: Callable[[Sequence[Content]], None] | None = None) -> None:
        self.batches: list[tuple[Role, list[Content]]] = []
        self.per_item = False  # whether it takes so long for each item of a batch
        self._seconds, self._fail = seconds, fail

    async def __call__(self, role: Role, batch: Sequence[Content]) -> Floats:
        """Encode one batch: each row is its content's first number."""
        self.batches.append((role, list(batch)))
        await asyncio.sleep(self._seconds * (len(batch) if self.per_item else 1))
        if self._fail is not None:
            self._fail(batch)
        return np.array([[content.flat[0]] for content in batch], dtype=np.float32)

    def list_sizes(self, role: Role) -> list[int]:
        """The sizes of the batches of a kind, in order."""
        return [len(batch) for name, batch in self.batches if name == role]


def make_batcher(encoder: RecordedEncoder, **options: Any) -> Batcher:
    """A batcher with small bounds."""
    settings: dict[str, Any] = {"bounds": {"image": 4, "text": 12}, "queue": 100, "longest_s": 1000.0}
    return Batcher(encoder, **{**settings, **options})


def draw(number: int, length: int = 1) -> Content:
    """The content of an item, by which it is known again."""
    return np.full(length, number, dtype=np.int32)
