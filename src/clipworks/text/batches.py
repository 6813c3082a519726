"""Which texts are encoded together.

A tower that packs a batch computes each shared prefix of its texts once, whatever their lengths. So texts are sorted by
their ids, and the sorted list is cut into batches of the same number of rows, which runtimes have to get ready for once
only. A zero-shot classifier of 80 templates and 1,000 class names takes less than half the rows of the same texts
without sharing. Any other tower computes all texts of a batch up to the longest: for it they are sorted by length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from clipworks.text.packing import count_alike, round_group, share_out, sort_texts
from clipworks.text.tokenizers import Ids

Places = npt.NDArray[np.intp]
Made = TypeVar("Made")
Staged_co = TypeVar("Staged_co", covariant=True)

_PACKED_ROWS = 1536
"""Rows in a packed batch at most: with more, nothing is faster."""

_MOST_WHOLE = 64
"""Texts in another batch at most: the tower may compute each to its full context, whatever its length."""


class TextEncoder(Protocol[Staged_co]):
    """What is asked of a runtime's encoder here; `clipworks.runtimes.Encoder` tells what it means."""

    packs: bool
    device: str

    def stage(self, batch: Ids) -> Staged_co:
        """Put a batch where the runtime wants it."""


def plan_batches(texts: Sequence[Ids], *, size: int, packs: bool) -> list[Places]:
    """Share out texts, int32 ``[length]`` each, over batches of at most ``size``; one of long texts holds fewer.

    Returns:
        The places of each batch's texts; every text is in one batch.
    """
    if not texts:
        return []
    ids, lengths = join_texts(texts), np.fromiter(map(len, texts), np.intp, len(texts))
    order = sort_texts(ids)
    if not packs:
        size = min(size, _MOST_WHOLE)
        order = order[np.argsort(lengths[order], kind="stable")]
        return [order[start : start + size] for start in range(0, len(order), size)]
    # The attention's groups are as long as the longest text of a batch needs: long texts come by themselves.
    groups = round_group(lengths)
    plan: list[Places] = []
    for group in sorted(set(groups.tolist())):  # np.unique would import a part of numpy for this, 7 ms of a first call
        part = order[groups[order] == group]
        first = share_out(lengths[part], count_alike(ids[part], lengths[part]), _PACKED_ROWS, size)
        plan += np.split(part, first[1:])
    return plan


def stage_ahead(
    encoder: TextEncoder[Made],
    texts: Sequence[Ids],
    *,
    size: int,
    pad: Callable[[Sequence[Ids]], Ids],
    report: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Places, Ids | Made]]:
    """Make a tower's batches of texts, each while the one before is being encoded.

    Args:
        encoder: of the text tower.
        texts: int32 ``[length]`` each.
        size: texts in a batch at most, at least 1.
        pad: makes one batch of texts for a tower that does not pack.
        report: told after each batch how many texts are encoded, and of how many.

    Yields:
        The places of a batch's texts, and the batch; on the CPU where the runtime wants it.
    """
    join, plan = join_texts if encoder.packs else pad, plan_batches(texts, size=size, packs=encoder.packs)

    def make(part: Places) -> Ids | Made:
        batch = join([texts[index] for index in part])
        # Elsewhere a batch made ahead would take memory of the device.
        return encoder.stage(batch) if encoder.device.startswith("cpu") else batch

    done = 0
    for part, batch in zip(plan, make_ahead(make, plan), strict=True):
        yield part, batch
        done += len(part)
        if report is not None:
            report(done, len(texts))


def join_texts(texts: Sequence[Ids]) -> Ids:
    """Make one batch ``[n, length]`` of texts of one id or more, filled up with their last; packed it costs nothing."""
    lengths, ids = np.fromiter(map(len, texts), np.intp, len(texts)), np.concatenate(texts, dtype=np.int32)
    last = ids[np.cumsum(lengths) - 1]
    joined = np.repeat(last[:, None], lengths.max(), axis=1)
    joined[np.arange(joined.shape[1]) < lengths[:, None]] = ids
    return joined


def make_ahead(make: Callable[[Places], Made], plan: Sequence[Places]) -> Iterator[Made]:
    """Make something of each batch of a plan, on a thread of its own while the caller is busy with the one before."""
    if len(plan) < 2:  # a thread would only cost
        yield from map(make, plan)
        return
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make, plan[0])
        for part in plan[1:]:
            made, following = following.result(), pool.submit(make, part)
            yield made
        yield following.result()
