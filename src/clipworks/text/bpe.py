"""A BPE with bytes for what is unknown, cut from a table as the tokenizers library cuts it, id by id."""

from __future__ import annotations

import functools
import heapq
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from clipworks.text.bpe_table import BpeTable
from clipworks.text.cleaning import replace_surrogates

_CUT_WORDS = 1 << 16
# A word begins with all its blanks; a break stands before the first of them.
_WORD = re.compile("▁*[^▁]+|▁+")


def make_bpe_encoder(table: BpeTable, *, lower: bool) -> Callable[[str], list[int]]:
    """Build the function from a text to its ids, those that stand around every text included.

    Args:
        table: the BPE.
        lower: write texts in lower case, but for added tokens, also where the file does not ask for it.

    Returns:
        A function; it may be called from several threads.

    Source: ``BPE::merge_word``, ``Word::merge_all`` and ``AddedVocabulary::extract_and_normalize`` of tokenizers.
    """
    facts, cut = table.facts, _make_cutter(table)
    lower = lower or facts.lower
    added = sorted(facts.added, key=len, reverse=True)  # of several that begin at one place the longest
    parted = re.compile(f"({'|'.join(map(re.escape, added))})") if added else None
    cut_word = functools.lru_cache(_CUT_WORDS)(cut)

    def encode(text: str) -> list[int]:
        row = list(facts.before)
        for part in parted.split(_drop_surrogates(text)) if parted else [text]:
            if part in facts.added:
                row.append(facts.added[part])
            elif part:
                plain = (_lower(part) if lower else part).replace(" ", "▁")
                for word in _WORD.findall(plain) if facts.by_words else [plain]:
                    row += cut_word(word)
        return [*row, *facts.behind]

    return encode


def _make_cutter(table: BpeTable) -> Callable[[str], tuple[int, ...]]:
    pairs, ranks, merged = table.pairs, table.ranks, table.merged
    byte_ids = table.facts.bytes
    character_ids = dict(zip(map(chr, table.characters.tolist()), table.character_ids.tolist(), strict=True))

    def find(left: int, right: int) -> tuple[int, int] | None:
        """The rank of two tokens' merge, and what it makes."""
        pair = np.uint64(left << 32 | right)
        place = int(pairs.searchsorted(pair))
        if place == len(pairs) or pairs[place] != pair:
            return None
        return int(ranks[place]), int(merged[place])

    def cut(word: str) -> tuple[int, ...]:
        ids: list[int] = []
        for character in word:
            if (number := character_ids.get(character)) is not None:
                ids.append(number)
            else:
                ids += [byte_ids[value] for value in character.encode()]
        return _merge(ids, find)

    return cut


def _merge(ids: list[int], find: Callable[[int, int], tuple[int, int] | None]) -> tuple[int, ...]:
    """Merge ids, the lowest rank first, of equal ranks the first place, until nothing is left to merge."""
    following, before = [*range(1, len(ids)), -1], list(range(-1, len(ids) - 1))
    waiting: list[tuple[int, int, int]] = []

    def queue(place: int) -> None:
        if place >= 0 and following[place] >= 0 and (found := find(ids[place], ids[following[place]])):
            heapq.heappush(waiting, (found[0], place, found[1]))

    for place in range(len(ids)):
        queue(place)
    while waiting:
        _, place, made = heapq.heappop(waiting)
        other = following[place]
        if ids[place] < 0 or other < 0:
            continue
        found = find(ids[place], ids[other])
        if found is None or found[1] != made:  # it is another pair by now; one that makes the same will do
            continue
        ids[place], ids[other] = made, -1
        following[place] = following[other]
        if following[other] >= 0:
            before[following[other]] = place
        queue(before[place])
        queue(place)
    return tuple(number for number in ids if number >= 0)


def _drop_surrogates(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return replace_surrogates(text)
    return text


def _lower(text: str) -> str:
    """Lower case as the library has it: by the characters alone, and by its own version of Unicode."""
    if text.isascii():
        return text.lower()
    lowered: str = _open_lower_case().normalize_str(text)
    return lowered


@functools.cache
def _open_lower_case() -> Any:
    from tokenizers.normalizers import Lowercase

    return Lowercase()
