"""OpenAI's text rules for CLIP: clean, split into words, merge bytes into tokens; equal id by id.

Written in Python, not run by the tokenizers library, for three reasons: its regular expressions know another
Unicode version in each release, reading 49,152 entries takes it five to ten times as long, and words repeat so
much in prompts that looking them up again is quicker than any tokenizer. `benchmarks/tokenizer_parity.py` compares
100,000 strings with OpenAI's own code.
"""

from __future__ import annotations

import functools
import heapq
import re
from collections.abc import Callable

from clipworks.text.cleaning import is_plain, repair_text
from clipworks.text.clip_vocabulary import BYTE_SYMBOLS, END, START, WORD_END, ClipVocabulary, read_character_classes

# Longer runs without a blank are rarely met twice; the bound also limits the memory of the cache.
_CACHED_LENGTH = 48
_CACHED_CHUNKS = 1 << 17

# Unicode's White_Space, which is what \s means to the reference; Python's own \s has four control characters more.
_BLANKS = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_ENDINGS = "'t|'re|'ve|'m|'ll|'d"
_ASCII_WORDS = re.compile(rf"<\|startoftext\|>|<\|endoftext\|>|'s|{_ENDINGS}|[a-z]+|[0-9]|[^a-z0-9]+")
_BYTE_TABLE = dict(enumerate(BYTE_SYMBOLS))


def clean_text(text: str) -> str:
    """Clean a text as OpenAI's tokenizer does.

    Encodings are repaired, HTML entities resolved twice, white space folded to single blanks, all in lower case; lone
    surrogates are replaced.

    Source: ``basic_clean`` and ``whitespace_clean`` of openai/CLIP, clip/simple_tokenizer.py.
    """
    if is_plain(text):
        return " ".join(text.split()).lower()
    return _BLANKS.sub(" ", repair_text(text).strip()).strip().lower()


def make_clip_encoder(vocabulary: ClipVocabulary) -> Callable[[str], list[int]]:
    """Build the function from a text to its token ids, start and end included; several threads may call it."""

    # The pattern is ``SimpleTokenizer.pat`` of openai/CLIP with the Unicode classes of the regex package.
    def encode_chunk(chunk: str) -> tuple[int, ...]:
        pattern = _ASCII_WORDS if chunk.isascii() else _unicode_words()
        return tuple(token for word in pattern.findall(chunk) for token in _encode_word(word, vocabulary))

    encode_short_chunk = functools.lru_cache(maxsize=_CACHED_CHUNKS)(encode_chunk)
    start, end = vocabulary.ids[START], vocabulary.ids[END]

    def encode(text: str) -> list[int]:
        row = [start]
        # No word reaches over a blank, so what stands between blanks can be looked up as a whole.
        for chunk in text.lower().split() if is_plain(text) else clean_text(text).split(" "):
            row += encode_short_chunk(chunk) if len(chunk) <= _CACHED_LENGTH else encode_chunk(chunk)
        row.append(end)
        return row

    return encode


def _encode_word(word: str, vocabulary: ClipVocabulary) -> list[int]:
    if word in (START, END):
        return [vocabulary.ids[word]]
    symbols = list(word.encode().decode("latin-1").translate(_BYTE_TABLE))
    symbols[-1] += WORD_END
    return [vocabulary.ids[symbol] for symbol in _merge(symbols, vocabulary.ranks)]


def _merge(symbols: list[str], ranks: dict[str, int]) -> list[str]:
    """Join neighbours, the lowest rank first and from the left, until no pair has a rank.

    A heap of candidates keeps this quick for a word of any length. Each token of the vocabulary is made by one merge
    only, of a rank above those that made its parts, so taking pairs one by one gives the same as the reference, which
    joins all equal pairs at once.
    """
    count = len(symbols)
    after, before = list(range(1, count + 1)), list(range(-1, count - 1))
    candidates = [
        (rank, left)
        for left in range(count - 1)
        if (rank := ranks.get(f"{symbols[left]} {symbols[left + 1]}")) is not None
    ]
    heapq.heapify(candidates)
    while candidates:
        rank, left = heapq.heappop(candidates)
        right = after[left]
        # A candidate whose neighbours have changed since is stale; the dead are empty and have no rank.
        if right == count or ranks.get(f"{symbols[left]} {symbols[right]}") != rank:
            continue
        symbols[left] += symbols[right]
        symbols[right] = ""
        after[left] = after[right]
        if after[left] < count:
            before[after[left]] = left
        for first in (before[left], left):
            second = after[first] if first >= 0 else count
            if second < count and (fresh := ranks.get(f"{symbols[first]} {symbols[second]}")) is not None:
                heapq.heappush(candidates, (fresh, first))
    return [symbol for symbol in symbols if symbol]


@functools.cache
def _unicode_words() -> re.Pattern[str]:
    """The pattern for text beyond ASCII, compiled on first use: its classes hold 800 ranges.

    The reference ignores case, which beyond plain lower case adds the long s; and it drops U+0345, whose upper case
    is a letter though it is none itself.
    """
    letters, numbers = map(_ranges, read_character_classes())
    return re.compile(
        rf"<\|[sſ]tartoftext\|>|<\|endoftext\|>|'[sſ]|{_ENDINGS}|[{letters}]+|[{numbers}]|[^{letters}{numbers}\u0345]+"
    )


def _ranges(listing: str) -> str:
    """Turn ``41-5a aa`` into the inside of a character class."""
    return "".join("-".join(f"\\U{int(end, 16):08x}" for end in part.split("-")) for part in listing.split())
