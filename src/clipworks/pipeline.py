"""The pipeline: read, decode and encode overlap while the caller takes finished blocks, in order and of bounded number.

The machine's work is in three places at once: pictures are decoded on worker threads (Pillow decodes outside Python's
lock), other threads feed the encoder, and the caller scores and writes what is done. A window of blocks is under way at
any time; the next one starts when the caller comes back for more, so memory does not grow with the data set.

On a GPU two blocks are encoded at once (`Model.streams`): one crosses to the device while the other is computed.

Block b always holds the items ``b * size`` to ``(b + 1) * size``, whatever the timing: a run can be repeated, or
continued at any block, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from clipworks.errors import ImageError, UsageError
from clipworks.processor import count_cores
from clipworks.scoring import Floats

if TYPE_CHECKING:
    from clipworks.datasets.listing import Sample
    from clipworks.images.batch_decoders import BatchDecoder
    from clipworks.model import Model

Item = TypeVar("Item")
Pixels = npt.NDArray[np.uint8]

# One block is decoded while one is encoded and one is taken by the caller; each further encoding thread has one more.
WINDOW = 3


@dataclass(frozen=True, kw_only=True)
class Block(Generic[Item]):
    """Consecutive items and what became of them.

    Attributes:
        start: place of the first item in the data set.
        items: in order.
        errors: for each item, why it has no embedding, or None.
        rows: float32 ``[good, dim]``: the embeddings of the items without an error, in order; ``[0, 0]`` for none.
    """

    start: int
    items: Sequence[Item]
    errors: tuple[str | None, ...]
    rows: Floats


def embed_block(
    start: int,
    items: Sequence[Item],
    prepare: Callable[[Item], Pixels],
    encode: Callable[[Pixels], Floats],
) -> Block[Item]:
    """Embed one block of items, one after another; a stage of another engine can call it for each of its blocks.

    Args:
        start: place of the first item in the data set.
        items: at least one.
        prepare: reads and decodes one item to uint8 ``[size, size, 3]``, or raises ImageError.
        encode: uint8 ``[n, size, size, 3]`` to float32 ``[n, dim]``, n at least 1.

    Returns:
        The block; an item whose ``prepare`` raised ImageError has an error and no row.
    """
    return encode_block(start, items, [attempt(prepare, item) for item in items], encode)


def encode_block(
    start: int, items: Sequence[Item], prepared: Sequence[Pixels | str], encode: Callable[[Pixels], Floats]
) -> Block[Item]:
    """The second half of `embed_block`, for engines whose decoding and encoding are stages of their own.

    Args:
        start: place of the first item in the data set.
        items: at least one.
        prepared: for each item, what `attempt` made of it.
        encode: as in `embed_block`.
    """
    squares = [square for square in prepared if not isinstance(square, str)]
    rows = encode(np.stack(squares)) if squares else np.empty((0, 0), dtype=np.float32)
    errors = tuple(square if isinstance(square, str) else None for square in prepared)
    return Block(start=start, items=items, errors=errors, rows=rows)


def attempt(prepare: Callable[[Item], Pixels], item: Item) -> Pixels | str:
    """The first half of `embed_block` for one item: its picture, or why there is none."""
    try:
        return prepare(item)
    except ImageError as error:
        return error.message


def embed_blocks(
    items: Sequence[Item],
    prepare: Callable[[Item], Any],
    encode: Callable[[Pixels], Floats],
    *,
    batch_size: int,
    develop: Callable[[Sequence[Any]], Sequence[Pixels | str]] | None = None,
    first: int = 0,
    workers: int | None = None,
    streams: int = 1,
    window: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Block[Item]]:
    """Embed items block by block, with reading, decoding and encoding overlapped.

    Args:
        items: only sliced and measured; a long one may make its items on demand.
        prepare: as in `embed_block`, or gives what ``develop`` takes; called on several threads at once.
        encode: as in `embed_block`; called on as many threads as ``streams`` says.
        batch_size: items in a block, at least 1.
        develop: makes squares, or texts that say why there is none, of all that ``prepare`` gave for a block; called on
            the threads of ``encode``.
        first: place of the first item to embed, a multiple of ``batch_size``.
        workers: threads that decode, at least 1; None for one a core.
        streams: blocks encoded at once, at least 1.
        window: blocks under way at once, the one that the caller holds among them, at least 1; None for enough.
        stop: asked before each new block; once it says so, the blocks under way are finished and no more begin.

    Yields:
        Blocks in the items' order, the same ones whatever the number of threads.

    Raises:
        UsageError: a size below 1, or a ``first`` within a block.
        Exception: whatever ``prepare`` raises but ImageError, and whatever ``encode`` raises.
    """
    workers = count_cores() if workers is None else workers
    window = WINDOW + streams - 1 if window is None else window
    for name, value in (("batch size", batch_size), ("workers", workers), ("streams", streams), ("window", window)):
        if value < 1:
            raise UsageError(f"{name} is {value}; allowed: 1 or more")
    if first % batch_size:
        raise UsageError(f"the first item is {first}; allowed: a multiple of the batch size, {batch_size}")
    starts = iter(range(first, len(items), batch_size))
    under_way: deque[Future[Block[Item]]] = deque()
    with contextlib.ExitStack() as stack:
        readers = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        encoder = ThreadPoolExecutor(streams, thread_name_prefix="encode")
        # On any way out what has not begun is dropped; what has is waited for. Readers go first: the encoder's threads
        # wait for them.
        stack.callback(encoder.shutdown, cancel_futures=True)
        stack.callback(readers.shutdown, cancel_futures=True)

        def begin(start: int) -> Future[Block[Item]]:
            part = items[start : start + batch_size]
            squares = [readers.submit(attempt, prepare, item) for item in part]

            def finish() -> Block[Item]:
                prepared = [square.result() for square in squares]
                return encode_block(start, part, develop(prepared) if develop else prepared, encode)

            return encoder.submit(finish)

        while True:
            while len(under_way) < window and not stop() and (start := next(starts, None)) is not None:
                under_way.append(begin(start))
            if not under_way:
                return
            # Waited for at its place and taken away after: the block that the caller holds counts.
            yield under_way[0].result()
            under_way.popleft()


def prepare_sample(model: Model, sample: Sample, decoder: BatchDecoder | None = None) -> Any:
    """Decode one sample, or bring it as far as a batch decoder wants it.

    Raises:
        ImageError: whatever is wrong with its file.
    """
    check_file(sample.file)
    try:
        return decoder.prepare(sample.file) if decoder else model.prepare_image(sample.file)
    except MemoryError:
        raise explain_memory(sample.file) from None


def check_file(file: str, *, name: str | None = None) -> None:
    """Raise ImageError for what is neither a regular file nor a folder: a pipe would be waited for."""
    try:
        special = not stat.S_ISREG(os.stat(file).st_mode) and not Path(file).is_dir()  # noqa: PTH116
    except (OSError, ValueError):
        special = False  # what is wrong with it is told by the attempt to read it
    if special:  # a device might never end
        raise ImageError(f"{file if name is None else name} is no regular file")


def explain_memory(name: str) -> ImageError:
    """The error of a picture that asked for more memory than there is."""
    return ImageError(f"{name} is too large for this machine's memory")
