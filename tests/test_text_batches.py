"""Texts are shared out over batches so that a tower computes few rows."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest

from clipworks.runtimes import Sharing
from clipworks.runtimes.packing import count_packed, round_group
from clipworks.text_batches import _CALL_ROWS, _MOST_ROWS, _MOST_WHOLE, _PACKED_ROWS, join_texts, plan_batches
from clipworks.tokens import Ids


def draw_texts(seed: int, count: int) -> list[Ids]:
    """Texts of few different tokens, so that many begin alike; some are equal."""
    random = np.random.default_rng(seed)
    return [np.array([90, *random.integers(1, 3, random.integers(1, 6)), 91], np.int32) for _ in range(count)]


def price(texts: list[Ids]) -> int:
    """The rows of one batch, by counting, and the call's own."""
    longest = max(map(len, texts))
    shared = 0
    while shared < min(map(len, texts)) - 1 and len({text[shared] for text in texts}) == 1:
        shared += 1
    return _CALL_ROWS + shared + len(texts) * (longest - shared)


@pytest.mark.parametrize("sharing", ["nothing", "prefix", "tree"])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_every_text_is_in_one_batch_of_at_most_the_size(size: int, sharing: Sharing) -> None:
    texts = draw_texts(0, 50)
    plan = plan_batches(texts, size=size, sharing=sharing)
    assert sorted(np.concatenate(plan)) == list(range(50))
    assert max(map(len, plan)) <= size


@pytest.mark.parametrize("seed", range(20))
def test_the_cuts_are_the_cheapest_of_all(seed: int) -> None:
    """Against every way to cut the same sorted list."""
    texts, size = draw_texts(seed, 9), 4
    plan = plan_batches(texts, size=size, sharing="prefix")
    order = [texts[place] for place in np.concatenate(plan)]
    ways = []
    for inner in itertools.product([False, True], repeat=len(order) - 1):
        cuts = [0, *(place for place, cut in enumerate(inner, 1) if cut), len(order)]
        parts = [order[start:end] for start, end in itertools.pairwise(cuts)]
        if max(map(len, parts)) <= size:
            ways.append(sum(map(price, parts)))
    assert sum(price([texts[place] for place in part]) for part in plan) == min(ways)


def test_many_texts_cost_hardly_more_than_with_the_cheapest_cuts() -> None:
    """Of many texts not every place is looked at; a rule that looks at all of them is the measure."""
    random, size = np.random.default_rng(0), 64
    beginnings = [random.integers(1, 90, random.integers(0, 6)) for _ in range(5)]
    names = [random.integers(1, 90, random.integers(1, 4)) for _ in range(80)]
    texts = [np.array([90, *first, *name, 91], np.int32) for first in beginnings for name in names]
    plan = plan_batches(texts, size=size, sharing="prefix")
    order = [texts[place] for place in np.concatenate(plan)]
    cheapest = [0]
    for end, text in enumerate(order, 1):
        shared, ways = len(text) - 1, []
        for start in range(end - 1, max(0, end - size) - 1, -1):
            shared = min(shared, len(os.path.commonprefix([list(order[start][:-1]), list(text[:-1])])))
            ways.append(cheapest[start] + _CALL_ROWS + shared + (end - start) * (len(text) - shared))
        cheapest.append(min(ways))
    assert sum(price([texts[place] for place in part]) for part in plan) <= 1.01 * cheapest[-1]


def test_prompts_of_one_template_come_together() -> None:
    """The common beginning of a template is computed once a batch, not once a text."""
    texts = [np.array([90, *template, name, 91], np.int32) for name in range(1, 41) for template in ((5, 6), (7, 8))]
    plan = plan_batches(texts, size=64, sharing="prefix")
    assert [len({tuple(texts[place][:3]) for place in part}) for part in plan] == [1, 1]


def test_long_texts_come_in_smaller_batches() -> None:
    """What lies between the layers grows with the rows, and must not grow with the number of long texts."""
    texts = [np.array([90, *np.random.default_rng(seed).integers(1, 90, 75), 91], np.int32) for seed in range(200)]
    plan = plan_batches(texts, size=256, sharing="prefix")
    rows = [price([texts[place] for place in part]) - _CALL_ROWS for part in plan]
    assert 0.85 * _MOST_ROWS < max(rows) <= _MOST_ROWS
    assert sorted(np.concatenate(plan)) == list(range(200))


def test_one_text_of_more_rows_than_a_batch_may_have_is_a_batch() -> None:
    texts = [np.full(_MOST_ROWS + 2, token, np.int32) for token in (1, 2)]
    assert [len(part) for part in plan_batches(texts, size=8, sharing="prefix")] == [1, 1]


def test_towers_that_may_fill_up_the_context_get_smaller_batches() -> None:
    plan = plan_batches([np.array([90, 1, 91], np.int32)] * 200, size=256, sharing="nothing")
    assert max(map(len, plan)) == _MOST_WHOLE


@pytest.mark.parametrize("sharing", ["nothing", "prefix", "tree"])
def test_no_text_gives_no_batch(sharing: Sharing) -> None:
    assert plan_batches([], size=8, sharing=sharing) == []


def test_packed_batches_are_as_full_as_they_can_be() -> None:
    """Rows are counted as a tower packs them, and the next text would be too many; all but the last batch are alike."""
    random = np.random.default_rng(0)
    texts = [np.array([90, *random.integers(1, 20, random.integers(1, 6)), 91], np.int32) for _ in range(3000)]
    plan = plan_batches(texts, size=3000, sharing="tree")
    counts = [count_packed(join_texts([texts[place] for place in part])) for part in plan]
    assert len(plan) > 2
    assert _PACKED_ROWS - 7 < min(counts[:-1]) <= max(counts) <= _PACKED_ROWS


def test_long_texts_are_packed_apart_from_short_ones() -> None:
    """The attention's groups are as long as the longest text of a batch, so one long text would make all of them so."""
    random = np.random.default_rng(0)
    texts = [np.array([90, *random.integers(1, 90, random.integers(1, 60)), 91], np.int32) for _ in range(200)]
    plan = plan_batches(texts, size=200, sharing="tree")
    assert all(len({round_group(len(texts[place])) for place in part}) == 1 for part in plan)
    assert {round_group(len(texts[part[0]])) for part in plan} == {32, 48, 64}


def test_a_text_of_more_rows_than_a_packed_batch_may_have_is_a_batch() -> None:
    texts = [np.arange(_PACKED_ROWS + 2, dtype=np.int32) + first for first in (0, 1)]
    assert [len(part) for part in plan_batches(texts, size=8, sharing="tree")] == [1, 1]


def test_joined_texts_are_filled_up_with_their_last_id() -> None:
    joined = join_texts([np.array([90, 1, 91], np.int32), np.array([90, 1, 2, 3, 92], np.int32)])
    np.testing.assert_array_equal(joined, np.array([[90, 1, 91, 91, 91], [90, 1, 2, 3, 92]], np.int32))
