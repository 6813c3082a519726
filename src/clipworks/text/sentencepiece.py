"""SentencePiece's unigram tokenizer: a text is cut into the pieces whose scores sum to the most, id by id as there.

Not by the tokenizers library, which reads such vocabularies too: it adds scores up in 64 bits and SentencePiece in 32,
which cuts otherwise where two ways are nearly equal; and it replaces characters grapheme by grapheme, SentencePiece by
the longest match. Words are cut once and looked up from then on, wherever rounding cannot matter.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable

from clipworks.text.sentencepiece_file import SentencePieceModel
from clipworks.text.sentencepiece_rules import BLANK, make_normalizer

_UNKNOWN_PENALTY = 10.0
_FLOAT = struct.Struct("f")

# A word that is looked up has so many characters at most, and so much of a score before it and in it; then what 32 bits
# round off is under 32 steps * 2**-13 on each side, and no way that leads by this margin can be overtaken.
_LOOKED_UP_LENGTH = 32
_LOOKED_UP_SCORE = 4096.0
_MARGIN = 0.01
_LOOKED_UP_WORDS = 1 << 16
_WORD = re.compile(f"{BLANK}?[^{BLANK}]*")


def make_piece_encoder(model: SentencePieceModel) -> Callable[[str], list[int]]:
    """Build the function from a text to the ids of its pieces, without an end token.

    Args:
        model: pieces and rules.

    Returns:
        A function; it may be called from several threads.

    Source: ``Model::EncodeOptimized`` of google/sentencepiece's unigram_model.cc, and
    ``SentencePieceProcessor::PopulateSentencePieceText``.
    """
    normalize, cut = make_normalizer(model), _make_cutter(model)
    by_words = BLANK in model.pieces and not any(BLANK in piece[1:] for piece in model.pieces)
    worst = max(-_unknown_score(model), *(abs(score) for score, _ in model.pieces.values()))

    @functools.lru_cache(maxsize=_LOOKED_UP_WORDS)
    def look_up(word: str) -> tuple[float, float, tuple[int, ...]]:
        """The score of a word by itself, the margin of its best way, and its ids."""
        if len(word) > _LOOKED_UP_LENGTH:
            return 0.0, 0.0, ()
        score, margin, ids = cut(word, lambda total: total)
        return score, margin, tuple(ids)

    def encode(text: str) -> list[int]:
        text = normalize(text)
        row: list[int] = []
        total = 0.0
        for word in _WORD.findall(text) if by_words else ():
            score, margin, ids = look_up(word)
            if word and (margin < _MARGIN or worst * len(word) + abs(total) > _LOOKED_UP_SCORE):
                return cut(text, _round)[2]
            row += ids
            total += score
        return row if by_words else cut(text, _round)[2]

    return encode


def _make_cutter(
    model: SentencePieceModel,
) -> Callable[[str, Callable[[float], float]], tuple[float, float, list[int]]]:
    """Build the function that cuts a text, given what rounds each sum.

    It returns the score, the least lead of the best way over another where the two meet, and the ids.
    """
    pieces, unknown_id, byte_ids = model.pieces, model.unknown_id, model.byte_ids
    reaches: dict[str, int] = {}
    for piece in pieces:
        reaches[piece[0]] = max(len(piece), reaches.get(piece[0], 0))
    unknown = _unknown_score(model), unknown_id

    def cut(text: str, rounded: Callable[[float], float]) -> tuple[float, float, list[int]]:
        size = len(text)
        # Of the best way that ends at each place: its score and lead, where its last piece begins, and that piece's id.
        scores, leads = [float("-inf")] * (size + 1), [float("inf")] * (size + 1)
        begins, ids = [0] * (size + 1), [unknown_id] * (size + 1)
        scores[0] = 0.0
        for begin, first in enumerate(text):
            found = [(end, pieces.get(text[begin:end])) for end in range(begin + 1, begin + reaches.get(first, 0) + 1)]
            for end, piece in found if first in pieces else [*found, (begin + 1, unknown)]:
                if piece is None or end > size:
                    continue
                total = rounded(scores[begin] + piece[0])
                lead = total - scores[end]
                if lead > 0:
                    scores[end], leads[end], begins[end], ids[end] = total, lead, begin, piece[1]
                else:
                    leads[end] = min(leads[end], -lead)
        row: list[int] = []
        margin, end = float("inf"), size
        while end > 0:
            margin = min(margin, leads[end])
            if ids[end] != unknown_id:
                row.append(ids[end])
            elif byte_ids:
                row += [byte_ids[value] for value in reversed(text[begins[end] : end].encode())]
            elif not row or row[-1] != unknown_id:  # characters in no piece are one unknown as far as they reach
                row.append(unknown_id)
            end = begins[end]
        return scores[size], margin, row[::-1]

    return cut


def _unknown_score(model: SentencePieceModel) -> float:
    return _round(min(score for score, _ in model.pieces.values()) - _UNKNOWN_PENALTY)


def _round(score: float) -> float:
    """Round to 32 bits."""
    rounded: float = _FLOAT.unpack(_FLOAT.pack(score))[0]
    return rounded
