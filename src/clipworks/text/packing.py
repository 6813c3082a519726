"""What a native or PyTorch text tower takes, made of a batch: each shared prefix once, and texts in groups.

Attention is causal, so a row depends on nothing but the tokens up to its own: a prefix that texts share is computed
once, and the rows of a batch are the nodes of a tree of tokens, listed text by text. Every linear map is one product
over that list. Only the attention takes rows apart: into groups of a few texts, each with its prefixes, since products
of three or four rows take runtimes longer than those of sixteen. In a group, too, rows stand text by text, so that a
row is seen by those behind it up to the end of its branch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.intp]

IDS, PLACES, GROUPS, ENDS, BACK, TEXTS = "ids", "places", "groups", "ends", "back", "texts"
"""The inputs of a tower that takes packed texts; `pack_texts` tells what they are."""

_GROUP_ROWS = 32
"""Rows of a group, where no text is longer. More are slower: most of an attention is then between texts."""

_TILE = 16
"""Longer groups are a multiple of this: an attention is quickest where no rows are left over."""

_FEW_ROWS = 128  # fewer are not filled up: a match with three texts would pay for it
_FILLED_ROWS, _FILLED_GROUPS = 64, 4
"""Rows and groups are filled up to a multiple of these, since runtimes compile products for each number."""


def pack_texts(ids: Ids, *, filled: bool = True) -> dict[str, Ids]:
    """Make a batch of token ids into the inputs of a text tower.

    Args:
        ids: ``[n, length]``, n at least 1. Of equal ids at the end of a text the first alone is computed: nothing that
            stands behind a text's end changes its embedding, and a batch filled up with end tokens costs no rows.
        filled: whether rows and groups of large batches are filled up, for runtimes that compile for each number.

    Returns:
        The inputs by name, all int32. `IDS` and `PLACES`, ``[1, rows]``: each row's token and its place in its text;
        `GROUPS` and `ENDS`, ``[groups, length]``: the rows of each group, and the place in the group before which each
        is seen; `BACK`, ``[1, rows]``: where each row stands among those of all groups; `TEXTS`, ``[n, length]``: the
        rows of each text, its last one repeated.
    """
    order, column = sort_texts(ids), np.arange(ids.shape[1])
    ids = ids[order]
    lengths = measure_texts(ids)
    alike = count_alike(ids, lengths)
    new = (column >= alike[:, None]) & (column < lengths[:, None])
    numbers = np.maximum.accumulate(np.where(new, np.cumsum(new).reshape(new.shape) - 1, 0), axis=0)

    length = int(round_group(lengths.max()))
    first = share_out(lengths, alike, length)
    group = np.zeros(len(ids), np.intp)
    group[first[1:]] = 1
    group = np.cumsum(group)
    # To its group a text adds what it adds to the batch, but the first of a group all its rows.
    kept = alike.copy()
    kept[first] = 0
    before = np.cumsum(lengths - kept) - (lengths - kept)
    text, place = np.nonzero((column >= kept[:, None]) & (column < lengths[:, None]))
    # A row's branch ends before the next text that has another row in its place.
    later = np.where(column >= kept[:, None], before[:, None], len(text))[1:]
    later = np.concatenate([later, np.full((1, len(column)), len(text))])
    later = np.minimum.accumulate(later[::-1], axis=0)[::-1]

    count = _round_up(len(first), _FILLED_GROUPS if filled and len(first) > 1 else 1)
    groups = np.zeros((count, length), np.int32)
    ends = np.tile(np.arange(1, length + 1, dtype=np.int32), (count, 1))  # a place that is left over sees itself
    start = before[first][group[text]]
    at = group[text], np.arange(len(text)) - start
    groups[at] = numbers[text, place]
    ends[at] = later[text, place] - start
    rows = int(new.sum())
    filling = (0, _round_up(rows, _FILLED_ROWS) - rows if filled and rows >= _FEW_ROWS else 0)
    texts = np.empty(ids.shape, np.int32)
    texts[order] = np.take_along_axis(numbers, np.minimum(column, lengths[:, None] - 1), axis=1)
    return {
        IDS: np.pad(ids[new], filling)[None],
        PLACES: np.pad(np.nonzero(new)[1], filling)[None].astype(np.int32),
        GROUPS: groups,
        ENDS: ends,
        BACK: np.pad(np.ravel_multi_index(at, groups.shape)[new[text, place]], filling)[None].astype(np.int32),
        TEXTS: texts,
    }


def count_packed(ids: Ids) -> int:
    """How many rows ``[n, length]`` have when they are packed; what a tower has more of only fills up."""
    ids = ids[sort_texts(ids)]
    lengths = measure_texts(ids)
    return int((lengths - count_alike(ids, lengths)).sum())


def sort_texts(ids: Ids) -> Numbers:
    """The places of texts ``[n, length]`` in the order of their ids, which brings those that begin alike together."""
    return np.argsort(np.ascontiguousarray(ids, ">i4").view(f"V{4 * ids.shape[1]}").ravel(), kind="stable")


def measure_texts(ids: Ids) -> Numbers:
    """The lengths of texts ``[n, length]``, of equal ids at the end the first one counted."""
    other = ids[:, ::-1] != ids[:, -1:]
    return np.where(other.any(axis=1), ids.shape[1] + 1 - np.argmax(other, axis=1), 1)


def count_alike(ids: Ids, lengths: Numbers) -> Numbers:
    """The ids that each text and the one before begin with alike."""
    same = np.logical_and.accumulate(ids[1:] == ids[:-1], axis=1).sum(axis=1)
    return np.concatenate([[0], np.minimum(same, np.minimum(lengths[1:], lengths[:-1]))])


def share_out(lengths: Numbers, alike: Numbers, rows: int, size: int | None = None) -> Numbers:
    """Cut a sorted list of texts into parts, each as large as it can be, and give the first text of each.

    Args:
        lengths: of the texts.
        alike: of each, what `count_alike` gives.
        rows: in a part at most; a text that is longer is one by itself.
        size: texts in a part at most.
    """
    total = np.cumsum(lengths - alike)
    first = [0]
    while True:
        start = first[-1]
        end = max(start + 1, int(np.searchsorted(total, rows - lengths[start] + total[start], side="right")))
        end = end if size is None else min(end, start + size)
        if end >= len(lengths):
            return np.array(first)
        first.append(end)


def round_group(lengths: Numbers) -> Numbers:
    """The rows of groups whose longest texts are so long."""
    return -(-np.maximum(lengths, _GROUP_ROWS) // _TILE) * _TILE


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
