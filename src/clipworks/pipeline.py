"""The pipeline: read, decode and encode overlap while the caller takes finished blocks, in order and of bounded number.

The machine's work is in three places at once: images are decoded on worker threads (Pillow decodes outside Python's
lock), other threads feed the encoder, and the caller scores and writes what is done. A window of blocks is under way at
any time; the next one starts when the caller comes back for more, so memory does not grow with the data set.

On a GPU two blocks are encoded at once (`Model.streams`): one crosses to the device while the other is computed.

Block b always holds the items ``b * size`` to ``(b + 1) * size``, whatever the timing: a run can be repeated, or
resumed at any block, bit for bit.

`clipworks.model.Model.embed_dataset` is the loop over a data set. `BlockThreads.begin` is its step, one block, which
``clipworks profile pipeline`` sends as a request; `attempt` and `encode_block` are the two halves of a step, for Ray,
whose decoding and encoding are stages of their own.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from clipworks.errors import ImageError, UsageError
from clipworks.options import check_count
from clipworks.processor import count_cores
from clipworks.scoring import Floats

if TYPE_CHECKING:
    from clipworks.images.decoders import ImageDecoder

Item = TypeVar("Item")
Pixels = npt.NDArray[np.uint8]

# One block is decoded while one is encoded and one is taken by the caller; each further encoding thread has one more.
WINDOW = 3


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How a loop over a data set works; none of it changes an embedding, but another decoder's pixels."""

    batch_size: int = 32  # images in a block, encoded at once, at least 1
    workers: int | None = None  # threads that decode, at least 1; None for one a core
    decoder: ImageDecoder | None = None  # what decodes the files; None for Pillow

    def __post_init__(self) -> None:
        """Check the numbers; raises UsageError."""
        for name, value in (("batch size", self.batch_size), ("workers", self.workers)):
            if value is not None:
                check_count(name, value)


DEFAULT_LOOP_OPTIONS = LoopOptions()


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[Item]):
    """What is done with the items of a block."""

    # reads and decodes one item to what ``develop`` takes, or raises ImageError; called on many threads
    prepare: Callable[[Item], Any]
    # makes of all that ``prepare`` gave for a block uint8 ``[size, size, 3]``, or texts that say why there is none
    develop: Callable[[Sequence[Any]], Sequence[Pixels | str]] = list
    # uint8 ``[n, size, size, 3]`` to float32 ``[n, dim]``, n at least 1; on the threads of ``develop``
    encode: Callable[[Pixels], Floats]


@dataclass(frozen=True, kw_only=True)
class EmbeddedBlock(Generic[Item]):
    """Consecutive items and what became of them."""

    start: int  # index of the first item in the data set
    items: Sequence[Item]  # in order
    errors: tuple[str | None, ...]  # for each item, why it has no embedding, or None
    rows: Floats  # float32 ``[good, dim]``: the embeddings of the items without an error, in order; ``[0, 0]`` for none


def attempt(prepare: Callable[[Item], Any], item: Item) -> Any:
    """The first half of a step for one item: what ``prepare`` makes of it, or why it cannot."""
    try:
        return prepare(item)
    except ImageError as error:
        return error.message


def encode_block(
    start: int, items: Sequence[Item], prepared: Sequence[Pixels | str], encode: Callable[[Pixels], Floats]
) -> EmbeddedBlock[Item]:
    """The second half of a step: ``prepared`` has for each item, of which there is one or more, its image or error."""
    squares = [square for square in prepared if not isinstance(square, str)]
    rows = encode(np.stack(squares)) if squares else np.empty((0, 0), dtype=np.float32)
    errors = tuple(square if isinstance(square, str) else None for square in prepared)
    return EmbeddedBlock(start=start, items=items, errors=errors, rows=rows)


class BlockThreads:
    """Threads that decode and threads that encode, through which blocks go side by side."""

    def __init__(self, *, workers: int | None = None, streams: int = 1) -> None:
        """Start none yet: ``workers`` threads will decode, or one a core, and ``streams`` blocks be encoded at once."""
        self._readers = ThreadPoolExecutor(workers or count_cores(), thread_name_prefix="decode")
        self._encoder = ThreadPoolExecutor(streams, thread_name_prefix="encode")

    def begin(self, steps: Steps[Item], start: int, items: Sequence[Item]) -> Future[EmbeddedBlock[Item]]:
        """Begin one block, whose first item has the index ``start``."""
        prepared = [self._readers.submit(attempt, steps.prepare, item) for item in items]

        def finish() -> EmbeddedBlock[Item]:
            developed = steps.develop([job.result() for job in prepared])
            return encode_block(start, items, developed, steps.encode)

        return self._encoder.submit(finish)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        # Readers go first: the encoder's threads wait for them.
        self._readers.shutdown(cancel_futures=True)
        self._encoder.shutdown(cancel_futures=True)


def embed_blocks(
    items: Sequence[Item],
    steps: Steps[Item],
    options: LoopOptions = DEFAULT_LOOP_OPTIONS,
    *,
    first: int = 0,
    streams: int = 1,
    window: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[EmbeddedBlock[Item]]:
    """Embed items block by block, in their order, with reading, decoding and encoding overlapped.

    Args:
        items: only sliced and measured; a long one may make its items on demand.
        steps: what is done with them.
        options: batch size and threads; its decoder is the steps' business.
        first: index of the first item to embed, a multiple of the batch size.
        streams: blocks encoded at once, at least 1.
        window: blocks under way at once, the one that the caller holds among them, at least 1; None for enough.
        stop: asked before each new block; once it says so, the blocks under way are finished and no more begin.

    Raises:
        UsageError: a size below 1, or a ``first`` within a block.
    """
    size = options.batch_size
    window = WINDOW + streams - 1 if window is None else window
    check_count("streams", streams)
    check_count("window", window)
    if first % size:
        raise UsageError(f"the first item is {first}; allowed: a multiple of the batch size, {size}")
    starts = iter(range(first, len(items), size))
    under_way: deque[Future[EmbeddedBlock[Item]]] = deque()
    # On any way out, also a caller's that goes away, the threads end.
    with contextlib.closing(BlockThreads(workers=options.workers, streams=streams)) as threads:
        while True:
            while len(under_way) < window and not stop() and (start := next(starts, None)) is not None:
                under_way.append(threads.begin(steps, start, items[start : start + size]))
            if not under_way:
                return
            # Waited for at its place and taken away after: the block that the caller holds counts.
            yield under_way[0].result()
            under_way.popleft()


def gather_rows(blocks: Iterator[EmbeddedBlock[Any]], count: int, dim: int) -> Floats:
    """The rows of all blocks, float32 ``[count, dim]``; raises ImageError for the first item that has none."""
    rows = np.empty((count, dim), dtype=np.float32)
    for block in blocks:
        for index, (item, error) in enumerate(zip(block.items, block.errors, strict=True), block.start):
            if error is not None:  # a path stands in its error
                raise ImageError(error if isinstance(item, str | os.PathLike) else f"images[{index}]: {error}")
        rows[block.start : block.start + len(block.rows)] = block.rows
    return rows
