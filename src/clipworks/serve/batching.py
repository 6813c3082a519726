"""Batches: what waits for an encoder is encoded together, images with images and texts with texts.

A batch is taken as soon as the encoder is free: of whatever waits then, up to a bound. While it is encoded, the next
ones come together by themselves. Under little load a request thus waits for nothing, and under much the batches are
full. ``max_wait_s`` lets the encoder wait for more, which buys larger batches where requests come one by one.

All of it runs on one event loop, so that nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

from clipworks.errors import EncodingError
from clipworks.runtimes.protocol import ROLES, Role
from clipworks.scoring import Floats
from clipworks.serve.limits import RequestError
from clipworks.serve.places import Places

Content = npt.NDArray[Any]
"""Of an image uint8 ``[size, size, 3]``, of a text int32 ``[length]``."""
Encode = Callable[[Role, Sequence[Content]], Awaitable[Floats]]
"""Encodes one batch to float32 unit rows ``[n, dim]``."""

# How much the newest batch counts in what an item is expected to take.
_NEWEST = 0.2
# The share of the longest wait that what is admitted may take together. An item waits for what is before it, and then
# for its batch, which those behind it may have made as large: with more than half, all would come too late.
_ADMITTED = 0.4


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How batches form."""

    images: int = 32  # in a batch at most
    tokens: int = 1536  # of the texts in a batch at most; with more, nothing is faster
    max_wait_s: float = 0.0  # that the oldest item waits for its batch to become full


class EncodedBatch(NamedTuple):
    """A batch that was encoded."""

    role: Role
    number: int  # the batch's place among all that this encoder was given
    items: int
    seconds: float  # that the encoder took


class EmbeddedItem(NamedTuple):
    """What became of an item."""

    row: Floats  # float32 ``[dim]``, of unit length
    queue_s: float  # from prepared to its batch's begin
    batch: EncodedBatch


@dataclass(kw_only=True, eq=False)
class _Waiting:
    content: Content
    cost: int
    since: float
    answer: asyncio.Future[EmbeddedItem]
    leave: Callable[[], None]  # gives its place in the queue free


class Batcher:
    """The queue before one model's encoders."""

    def __init__(
        self,
        encode: Encode,
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
        bounds: Mapping[Role, int],
        queue: int,
        max_wait_s: float = 0.0,
        longest_s: float = 30.0,
        observe: Callable[[EncodedBatch], None] | None = None,
    ) -> None:
        """Start nothing yet; `run` does.

        Args:
            encode: encodes a batch.
            prepare: waits until the encoder is there, which counts as waiting, not as encoding.
            bounds: what the items of a batch may cost together: an image costs 1, a text its tokens.
            queue: items admitted and not yet encoded, at most.
            max_wait_s: how long the oldest item waits at most for its batch to become full.
            longest_s: nothing is admitted that may not be answered within it, by what items have taken lately.
            observe: told of each batch.
        """
        self._encode, self._prepare, self._bounds, self._observe = encode, prepare, dict(bounds), observe
        self._limit, self._max_wait_s, self._longest_s = queue, max_wait_s, longest_s
        self._queues: dict[Role, OrderedDict[_Waiting, None]] = {role: OrderedDict() for role in ROLES}
        self._held: dict[Role, int] = dict.fromkeys(ROLES, 0)
        self._encoding: dict[Role, int] = dict.fromkeys(ROLES, 0)
        self._encode_s: dict[Role, float] = dict.fromkeys(ROLES, 0.0)
        self._prepare_s: dict[Role, float] = dict.fromkeys(ROLES, 0.0)
        self._arrived = asyncio.Event()
        self._count = 0

    @property
    def waiting(self) -> dict[Role, int]:
        """Items admitted and not yet given to the encoder."""
        return dict(self._held)

    @property
    def expected_s(self) -> float:
        """How long what is admitted will take, by what items have taken lately: to prepare, and in the encoder."""
        return sum(
            self._held[role] * (self._encode_s[role] + self._prepare_s[role])
            + self._encoding[role] * self._encode_s[role]
            for role in ROLES
        )

    def expect(self, role: Role, *, encode_s: float | None = None, prepare_s: float | None = None) -> None:
        """Count how long an item has taken, of a machine's whole time, in what the next ones are expected to take."""
        for known, newest in ((self._encode_s, encode_s), (self._prepare_s, prepare_s)):
            if newest is not None:
                known[role] = newest if known[role] == 0 else known[role] + _NEWEST * (newest - known[role])

    @contextlib.contextmanager
    def admit(self, counts: Mapping[Role, int], *, always: bool = False) -> Iterator[Places]:
        """Take places in the queue for the items of a request; what is left of them is free again at the end.

        With ``always`` they are taken whatever waits.

        Raises:
            RequestError: 429: there are not as many, or they would have to wait too long.
        """
        held, asked, expected = sum(self._held.values()), sum(counts.values()), self.expected_s
        most_s = _ADMITTED * self._longest_s
        if not always and (held + asked > self._limit or expected > most_s):
            said = f"{held} images and texts wait, {expected:.1f} s of work; allowed: {self._limit}, and {most_s:.1f} s"
            raise RequestError(429, "queue_full", said, retry_after_s=max(expected / 2, 1))
        places = Places(self._held, counts)
        try:
            yield places
        finally:
            places.leave_all()

    def put(self, role: Role, content: Content, cost: int, places: Places) -> asyncio.Future[EmbeddedItem]:
        """Queue one prepared item; who cancels what is returned takes it out again."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[EmbeddedItem] = loop.create_future()
        waiting = _Waiting(
            content=content, cost=cost, since=loop.time(), answer=answer, leave=lambda: places.leave(role)
        )
        queue = self._queues[role]
        queue[waiting] = None
        answer.add_done_callback(lambda _: queue.pop(waiting, None))
        self._arrived.set()
        return answer

    async def run(self) -> None:
        """Encode batch after batch, for ever."""
        while True:
            role = await self._wait_for_batch()
            if batch := self._take(role):
                await self._encode_batch(role, batch)

    async def _wait_for_batch(self) -> Role:
        """Wait until a batch is full, or its oldest item has waited long enough; of two the one that waits longest."""
        loop = asyncio.get_running_loop()
        while True:
            oldest: dict[Role, float] = {}
            for role, queue in self._queues.items():
                first = next((item for item in queue if not item.answer.done()), None)
                if first is not None:
                    oldest[role] = first.since
            now = loop.time()
            ready = [role for role in oldest if now - oldest[role] >= self._max_wait_s or self._is_full(role)]
            if ready:
                return min(ready, key=oldest.__getitem__)
            self._arrived.clear()
            rest = min(oldest.values()) + self._max_wait_s - now if oldest else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), rest)

    def _is_full(self, role: Role) -> bool:
        cost = 0
        for item in self._queues[role]:
            cost += 0 if item.answer.done() else item.cost
            if cost >= self._bounds[role]:
                return True
        return False

    def _take(self, role: Role) -> list[_Waiting]:
        """Take the oldest items as far as they fit in a batch, at least one, without those that nobody waits for."""
        queue, batch, cost = self._queues[role], list[_Waiting](), 0
        for item in queue:
            cost += 0 if item.answer.done() else item.cost  # whoever asked for it may be gone
            if batch and cost > self._bounds[role]:
                break
            if not item.answer.done():
                batch.append(item)
        for item in batch:
            del queue[item]
            item.leave()
        return batch

    async def _encode_batch(self, role: Role, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        number, self._count = self._count, self._count + 1
        self._encoding[role] = len(batch)
        try:
            if self._prepare is not None:
                await self._prepare()
            begin = loop.time()
            rows = await self._encode(role, [item.content for item in batch])
        except EncodingError as error:
            if len(batch) > 1:  # one by one, so that what cannot be encoded fails alone
                for item in batch:
                    await self._encode_batch(role, [item])
            else:
                _fail(batch, error)
            return
        except asyncio.CancelledError:
            for item in batch:
                item.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer to those who wait for it
            _fail(batch, error)
            return
        finally:
            self._encoding[role] = 0
        seconds = loop.time() - begin
        self.expect(role, encode_s=seconds / len(batch))
        encoded = EncodedBatch(role=role, number=number, items=len(batch), seconds=seconds)
        if self._observe is not None:
            self._observe(encoded)
        for item, row in zip(batch, rows, strict=True):
            if not item.answer.done():
                item.answer.set_result(EmbeddedItem(row=row, queue_s=begin - item.since, batch=encoded))


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for item in batch:
        if not item.answer.done():
            item.answer.set_exception(error)
