"""Which texts are encoded together: those that begin alike.

A tower that packs a batch computes each beginning of its texts once, whatever their lengths. So texts are sorted by
their ids, and the sorted list is cut into batches of the same number of rows, which engines have to get ready for once
only. A head of 80 templates and 1,000 names takes less than half the rows of the same texts without sharing.

A tower that shares what all texts of a batch begin with computes the rest of each up to the longest. For it texts are
sorted by length and then by their ids, and the list is cut where the sum of rows, with a fixed price a batch, is
smallest (dynamic programming over the cuts).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipworks.runtimes import Sharing
from clipworks.runtimes.packing import count_alike, round_group, share_out, sort_texts
from clipworks.tokens import Ids

Places = npt.NDArray[np.intp]

_CALL_ROWS = 24
"""What a call costs beside its rows, in rows: the weights come from memory once a call. Measured with ViT-B/32."""

_PACKED_ROWS = 1024
"""Rows in a packed batch at most: with more, products are no faster."""

_MOST_ROWS = 4096
"""Rows in another batch at most: products are as fast as they get, and what lies between the layers stays small."""

_MOST_ALIKE = 256
"""Texts at most in a batch whose common beginning is computed once: more would begin less alike."""

_SHORTEST_RUN = 8
"""Texts that begin alike further than their neighbours, from which on a cut before and behind them is looked at."""

_STEPS = 8
"""Cuts looked at within a full batch where nothing speaks for one place or another."""

_MOST_WHOLE = 64
"""Texts in a batch at most where the tower may compute each to its full context, whatever its length."""


def plan_batches(texts: Sequence[Ids], *, size: int, sharing: Sharing) -> list[Places]:
    """Share out texts over batches.

    Args:
        texts: int32 ``[length]`` each.
        size: texts in a batch at most, at least 1; a batch of long texts holds fewer.
        sharing: what the tower computes once.

    Returns:
        The places of each batch's texts; every text is in one batch.
    """
    if not texts:
        return []
    if sharing == "tree":
        return _plan_packed(texts, size)
    if sharing == "nothing":
        size = min(size, _MOST_WHOLE)
        order = np.argsort([len(text) for text in texts], kind="stable")
        return [order[start : start + size] for start in range(0, len(order), size)]
    keys = [(len(text), text.astype(">i4").tobytes()) for text in texts]
    order = np.array(sorted(range(len(texts)), key=keys.__getitem__), dtype=np.intp)
    cuts = _choose_cuts([texts[place] for place in order], min(size, _MOST_ALIKE))
    return [order[start:end] for start, end in itertools.pairwise(cuts)]


def join_texts(texts: Sequence[Ids]) -> Ids:
    """Make one batch ``[n, length]`` of texts, each filled up with its last id, which costs a packed batch nothing."""
    joined = np.empty((len(texts), max(map(len, texts))), np.int32)
    for row, text in zip(joined, texts, strict=True):
        row[: len(text)] = text
        row[len(text) :] = text[-1]
    return joined


def _plan_packed(texts: Sequence[Ids], size: int) -> list[Places]:
    """Batches for a tower that packs them; of one length of groups each, since all are as long as the longest needs."""
    ids, lengths = join_texts(texts), np.array([len(text) for text in texts])
    order, groups = sort_texts(ids), np.array([round_group(len(text)) for text in texts])
    plan: list[Places] = []
    for group in np.unique(groups):
        part = order[groups[order] == group]
        first = share_out(lengths[part], count_alike(ids[part], lengths[part]), _PACKED_ROWS, size)
        plan += np.split(part, first[1:])
    return plan


def _choose_cuts(texts: Sequence[Ids], size: int) -> list[int]:
    """Where to cut a sorted list, both ends included, so that the cost of all batches is smallest."""
    lengths = np.array([len(text) for text in texts])
    alike = _count_alike(texts, lengths)
    marks = _list_marks(lengths, alike, size)
    joins = [int(alike[mark]) for mark in marks[:-1]]
    # What the texts between two marks begin with alike: a text alone has all but its last id.
    inner = [
        int(alike[start + 1 : end].min()) if end - start > 1 else int(lengths[start]) - 1
        for start, end in itertools.pairwise(marks)
    ]
    cheapest, starts = [0] * len(marks), [0] * len(marks)
    for place in range(1, len(marks)):
        end, shared, best = marks[place], inner[place - 1], None
        length = int(lengths[end - 1])
        for start in range(place - 1, -1, -1):
            shared = min(shared, inner[start])
            number = end - marks[start]
            rows = shared + number * (length - shared)
            if best is not None and (number > size or rows > _MOST_ROWS):  # rows grow with the number of texts
                break
            cost = cheapest[start] + rows + _CALL_ROWS
            if best is None or cost < best:
                best, starts[place] = cost, start
            shared = min(shared, joins[start])
        cheapest[place] = best or 0
    cuts, place = [len(texts)], len(marks) - 1
    while place:
        place = starts[place]
        cuts.append(marks[place])
    return cuts[::-1]


def _list_marks(lengths: npt.NDArray[np.intp], alike: npt.NDArray[np.intp], size: int) -> list[int]:
    """Places of a sorted list that are worth a cut, both ends included.

    Besides these: a new length, the start and the end of a long run of texts that begin alike further than their
    neighbours, and every few texts, since a batch has a limit.
    """
    ends = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    marks = set(ends)
    for start, end in itertools.pairwise(ends):
        most = min(size, _MOST_ROWS // int(lengths[start]))
        marks.update(range(start, end, max(1, most // _STEPS)))
    for depth in range(1, int(alike.max()) + 1):
        edges = np.flatnonzero(np.diff(alike >= depth, prepend=False, append=False))
        runs = np.stack([edges[::2] - 1, edges[1::2]])  # a text is like the one before it
        marks.update(runs[:, runs[1] - runs[0] >= _SHORTEST_RUN].ravel().tolist())
    return sorted(marks)


def _count_alike(texts: Sequence[Ids], lengths: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Ids that each text and the one before begin with alike, the last one of the shorter never counted."""
    table = np.full((len(texts), int(lengths.max()) + 1), -1, dtype=np.int32)
    for row, text in zip(table, texts, strict=True):
        row[: len(text)] = text
    same = table[1:] == table[:-1]
    same[:, -1] = False
    least = np.minimum(lengths[1:], lengths[:-1]) - 1
    return np.concatenate([[0], np.minimum(np.argmin(same, axis=1), least)])
