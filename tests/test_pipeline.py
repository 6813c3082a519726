"""The pipeline: order and blocks do not depend on timing, memory is bounded, errors stay in their places."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from clipworks.errors import EncodingError, ImageError, UsageError
from clipworks.images.resize import Pixels
from clipworks.pipeline import BlockThreads, EmbeddedBlock, LoopOptions, Steps, embed_blocks
from clipworks.scoring import Floats


def paint(item: int) -> Pixels:
    """An image that carries its item's number."""
    return np.full((1, 1, 3), item % 256, dtype=np.uint8)


def read_off(pixels: Pixels) -> Floats:
    """An encoder that gives the number back, and how many images it saw at once."""
    return np.stack([pixels[:, 0, 0, 0], np.full(len(pixels), len(pixels))], axis=1).astype(np.float32)


def flatten(blocks: Iterator[EmbeddedBlock[int]]) -> list[tuple[int, list[int], list[float]]]:
    return [(block.start, list(block.items), block.rows[:, 0].tolist()) for block in blocks]


def test_order_and_blocks_are_kept_whatever_the_delays() -> None:
    delays = random.Random(7)

    def prepare(item: int) -> Pixels:
        time.sleep(delays.random() / 300)
        return paint(item)

    expected = [
        (start, list(range(start, min(start + 7, 100))), [float(n) for n in range(start, min(start + 7, 100))])
        for start in range(0, 100, 7)
    ]
    assert (
        flatten(embed_blocks(range(100), Steps(prepare=prepare, encode=read_off), LoopOptions(batch_size=7, workers=8)))
        == expected
    )
    assert (
        flatten(
            embed_blocks(
                range(100), Steps(prepare=paint, encode=read_off), LoopOptions(batch_size=7, workers=1), window=1
            )
        )
        == expected
    )
    assert (
        flatten(embed_blocks(range(100), Steps(prepare=paint, encode=read_off), LoopOptions(batch_size=7), first=63))
        == expected[9:]
    )
    assert flatten(embed_blocks(range(0), Steps(prepare=paint, encode=read_off), LoopOptions(batch_size=7))) == []


def test_no_more_blocks_are_under_way_than_the_window_allows() -> None:
    """What was prepared and not yet given back is counted with a caller that is slow and an encoder that is not."""
    lock = threading.Lock()
    prepared = taken = most = 0

    def prepare(item: int) -> Pixels:
        nonlocal prepared, most
        with lock:
            prepared += 1
            most = max(most, prepared - taken)
        return paint(item)

    for block in embed_blocks(
        range(400), Steps(prepare=prepare, encode=read_off), LoopOptions(batch_size=5, workers=4), window=3
    ):
        time.sleep(0.001)
        with lock:
            taken += len(block.items)
    assert prepared == 400
    assert 5 < most <= 15


def test_items_that_fail_stay_in_place_and_the_others_are_encoded_without_them() -> None:
    def prepare(item: int) -> Pixels:
        if item % 3 == 0 or item >= 8:
            raise ImageError(f"{item} is no image")
        return paint(item)

    blocks = list(embed_blocks(range(12), Steps(prepare=prepare, encode=read_off), LoopOptions(batch_size=4)))
    assert [block.errors for block in blocks] == [
        ("0 is no image", None, None, "3 is no image"),
        (None, None, "6 is no image", None),
        ("8 is no image", "9 is no image", "10 is no image", "11 is no image"),
    ]
    assert blocks[0].rows.tolist() == [[1, 2], [2, 2]]
    assert blocks[1].rows.tolist() == [[4, 3], [5, 3], [7, 3]]
    assert len(blocks[2].rows) == 0
    with contextlib.closing(BlockThreads()) as threads:
        alone = threads.begin(Steps(prepare=prepare, encode=read_off), 4, range(4, 8)).result()
    assert (alone.start, alone.errors) == (4, blocks[1].errors)
    assert np.array_equal(alone.rows, blocks[1].rows)


def test_decoding_and_encoding_overlap() -> None:
    """An encoder that waits for the next block's images would wait for ever in a pipeline that does not overlap."""
    reached = threading.Event()

    def prepare(item: int) -> Pixels:
        if item == 4:
            reached.set()
        return paint(item)

    def encode(pixels: Pixels) -> Floats:
        assert reached.wait(5)
        return read_off(pixels)

    assert (
        len(list(embed_blocks(range(8), Steps(prepare=prepare, encode=encode), LoopOptions(batch_size=4, workers=1))))
        == 2
    )


def test_a_stop_finishes_what_is_under_way_and_begins_no_more() -> None:
    begun: list[int] = []

    def prepare(item: int) -> Pixels:
        begun.append(item)
        return paint(item)

    seen: list[int] = []
    blocks = embed_blocks(
        range(100),
        Steps(prepare=prepare, encode=read_off),
        LoopOptions(batch_size=2),
        window=3,
        stop=lambda: len(seen) >= 4,
    )
    seen.extend(block.start for block in blocks)
    assert seen == [2 * number for number in range(len(seen))]
    assert 4 <= len(seen) <= 7
    assert sorted(begun) == list(range(2 * len(seen)))


@pytest.mark.parametrize("stage", ["prepare", "encode"])
def test_any_other_failure_ends_the_run_and_leaves_no_thread(stage: str) -> None:
    def prepare(item: int) -> Pixels:
        if stage == "prepare" and item == 20:
            raise EncodingError("broken")
        return paint(item)

    def encode(pixels: Pixels) -> Floats:
        if stage == "encode" and pixels[0, 0, 0, 0] == 20:
            raise EncodingError("broken")
        return read_off(pixels)

    before = threading.active_count()
    found: list[EmbeddedBlock[int]] = []
    with pytest.raises(EncodingError, match="broken"):
        found.extend(embed_blocks(range(1000), Steps(prepare=prepare, encode=encode), LoopOptions(batch_size=4)))
    assert [block.start for block in found] == [0, 4, 8, 12, 16]
    assert threading.active_count() == before


def test_a_caller_that_goes_away_ends_the_threads() -> None:
    before = threading.active_count()
    blocks = embed_blocks(range(1000), Steps(prepare=paint, encode=read_off), LoopOptions(batch_size=4))
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]  # a generator is what it is
    assert threading.active_count() == before


def test_sizes_below_one_and_a_start_within_a_block_are_refused() -> None:
    for size, workers, window, first, message in [
        (0, 1, 1, 0, "batch size is 0; allowed: 1 or more"),
        (1, 0, 1, 0, "workers is 0; allowed: 1 or more"),
        (1, 1, 0, 0, "window is 0; allowed: 1 or more"),
        (4, 1, 1, 6, "the first item is 6; allowed: a multiple of the batch size, 4"),
    ]:
        with pytest.raises(UsageError, match=message):
            next(
                embed_blocks(
                    range(8),
                    Steps(prepare=paint, encode=read_off),
                    LoopOptions(batch_size=size, workers=workers),
                    window=window,
                    first=first,
                )
            )
