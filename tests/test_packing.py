"""Texts are packed for a tower: every shared prefix once, and in groups in which each row sees its own text alone."""

from __future__ import annotations

import numpy as np
import pytest

from clipworks.text.packing import count_packed, pack_texts

pytestmark = pytest.mark.runtimes

END = 99


def draw_ids(seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """Texts of several lengths filled up with end tokens; many begin alike, and some are equal."""
    random = np.random.default_rng(seed)
    number, length = int(random.integers(1, 80)), int(random.integers(1, 12) if seed % 4 else random.integers(30, 77))
    ids = random.integers(1, 3 if seed % 2 else 50, (number, length)).astype(np.int32)
    ids[np.arange(length) >= random.integers(0, length, number)[:, None]] = END
    return ids


@pytest.mark.parametrize("seed", range(16))
def test_each_shared_prefix_is_one_row(seed: int) -> None:
    ids = draw_ids(seed)
    texts = [row[: row.index(END) + 1] for row in ids.tolist()]
    packed = pack_texts(ids)
    assert count_packed(ids) == len({tuple(text[:end]) for text in texts for end in range(1, len(text) + 1)})
    for text, rows in zip(texts, packed["texts"], strict=True):
        assert packed["ids"][0, rows[: len(text)]].tolist() == text
        assert packed["places"][0, rows[: len(text)]].tolist() == list(range(len(text)))
        assert set(rows[len(text) - 1 :].tolist()) == {rows[len(text) - 1]}
        assert rows.max() < count_packed(ids)


@pytest.mark.parametrize("seed", range(16))
def test_in_the_group_that_counts_a_row_sees_its_own_text_up_to_itself(seed: int) -> None:
    packed = pack_texts(draw_ids(seed))
    groups, ends = packed["groups"], packed["ends"]
    slots = np.arange(groups.shape[1])
    for rows in packed["texts"]:
        for place in range(len(np.unique(rows))):
            group, slot = divmod(int(packed["back"][0, rows[place]]), len(slots))
            seen = (slots <= slot) & (slot < ends[group])
            assert groups[group, seen].tolist() == rows[: place + 1].tolist()
    # What is left over in a group sees something, or its softmax would be of nothing.
    assert ((slots[:, None] >= slots) & (slots[:, None] < ends[:, None])).any(axis=2).all()


def test_rows_and_groups_are_filled_up_to_few_different_numbers() -> None:
    """Runtimes compile for each; a few rows are left as they are."""
    texts = np.stack([np.full(400, 1), np.arange(400) + 100, np.full(400, END)], axis=1).astype(np.int32)
    shapes = {number: pack_texts(texts[:number]) for number in (3, 200, 210, 400)}
    assert {number: packed["ids"].shape[1] for number, packed in shapes.items()} == {3: 7, 200: 448, 210: 448, 400: 832}
    assert {number: len(packed["groups"]) for number, packed in shapes.items()} == {3: 1, 200: 16, 210: 16, 400: 28}


def test_ids_without_an_end_and_of_one_kind_are_packed() -> None:
    """Equal ids at the end count once, whatever they are; which of them is pooled stands no later."""
    packed = pack_texts(np.array([[5, 5, 5], [5, 6, 0]], np.int32))
    assert packed["ids"].tolist() == [[5, 6, 0]]
    assert packed["texts"].tolist() == [[0, 0, 0], [0, 1, 2]]
