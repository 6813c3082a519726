"""Texts are shared out over batches so that a tower computes few rows."""

from __future__ import annotations

import numpy as np
import pytest

from clipworks.text.batches import _MOST_WHOLE, _PACKED_ROWS, Places, join_texts, make_ahead, plan_batches
from clipworks.text.packing import count_packed, round_group
from clipworks.text.tokenizers import Ids

pytestmark = pytest.mark.runtimes


def draw_texts(seed: int, count: int) -> list[Ids]:
    """Texts of few different tokens, so that many begin alike; some are equal."""
    random = np.random.default_rng(seed)
    return [np.array([90, *random.integers(1, 3, random.integers(1, 6)), 91], np.int32) for _ in range(count)]


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_every_text_is_in_one_batch_of_at_most_the_size(size: int, packs: bool) -> None:  # noqa: FBT001
    texts = draw_texts(0, 50)
    plan = plan_batches(texts, size=size, packs=packs)
    assert sorted(np.concatenate(plan)) == list(range(50))
    assert max(map(len, plan)) <= size


def test_prompts_of_one_template_come_together() -> None:
    """The shared prefix of a template is computed once a batch, not once a text."""
    texts = [np.array([90, *template, name, 91], np.int32) for name in range(1, 41) for template in ((5, 6), (7, 8))]
    plan = plan_batches(texts, size=40, packs=True)
    assert [len({tuple(texts[place][:3]) for place in part}) for part in plan] == [1, 1]


def test_towers_that_may_fill_up_the_context_get_smaller_batches() -> None:
    plan = plan_batches([np.array([90, 1, 91], np.int32)] * 200, size=256, packs=False)
    assert max(map(len, plan)) == _MOST_WHOLE


@pytest.mark.parametrize("packs", [False, True])
def test_no_text_gives_no_batch(packs: bool) -> None:  # noqa: FBT001
    assert plan_batches([], size=8, packs=packs) == []


def test_packed_batches_are_as_full_as_they_can_be() -> None:
    """Rows are counted as a tower packs them, and the next text would be too many; all but the last batch are alike."""
    random = np.random.default_rng(0)
    texts = [np.array([90, *random.integers(1, 20, random.integers(1, 6)), 91], np.int32) for _ in range(3000)]
    plan = plan_batches(texts, size=3000, packs=True)
    counts = [count_packed(join_texts([texts[place] for place in part])) for part in plan]
    assert len(plan) > 2
    assert _PACKED_ROWS - 7 < min(counts[:-1]) <= max(counts) <= _PACKED_ROWS


def test_long_texts_are_packed_apart_from_short_ones() -> None:
    """The attention's groups are as long as the longest text of a batch, so one long text would make all of them so."""
    random = np.random.default_rng(0)
    texts = [np.array([90, *random.integers(1, 90, random.integers(1, 60)), 91], np.int32) for _ in range(200)]
    plan = plan_batches(texts, size=200, packs=True)
    groups = round_group(np.array([len(text) for text in texts])).tolist()
    assert all(len({groups[place] for place in part}) == 1 for part in plan)
    assert {groups[part[0]] for part in plan} == {32, 48, 64}


def test_a_text_of_more_rows_than_a_packed_batch_may_have_is_a_batch() -> None:
    texts = [np.arange(_PACKED_ROWS + 2, dtype=np.int32) + first for first in (0, 1)]
    assert [len(part) for part in plan_batches(texts, size=8, packs=True)] == [1, 1]


def test_joined_texts_are_filled_up_with_their_last_id() -> None:
    joined = join_texts([np.array([90, 1, 91], np.int32), np.array([90, 1, 2, 3, 92], np.int32)])
    np.testing.assert_array_equal(joined, np.array([[90, 1, 91, 91, 91], [90, 1, 2, 3, 92]], np.int32))
    assert join_texts([[90, 91]]).dtype == np.int32  # type: ignore[list-item]  # ids of a caller's own


def test_what_is_made_ahead_comes_in_order_and_an_error_with_its_batch() -> None:
    made: list[int] = []

    def make(part: Places) -> int:
        made.append(int(part[0]))
        if made[-1] == 2:
            raise ValueError("the third")
        return made[-1]

    plan = [np.array([number]) for number in range(4)]
    ahead = make_ahead(make, plan)
    assert (next(ahead), next(ahead)) == (0, 1)
    with pytest.raises(ValueError, match="the third"):
        next(ahead)
    made.clear()
    assert list(make_ahead(make, plan[3:])) == [3]
    assert list(make_ahead(make, [])) == []
