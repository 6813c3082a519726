"""What SentencePiece does to a text before it cuts it: characters are replaced by a table, blanks folded."""

from __future__ import annotations

import re
from collections.abc import Callable

from clipworks.text.sentencepiece_file import SentencePieceModel, find_offset

BLANK = "▁"
"""U+2581, which stands for a blank."""

_BLANKS = re.compile(" +")
_PLAIN = re.compile(f"[ -~{BLANK}]*")
_PLAIN_BYTES = (*range(0x20, 0x7F), *BLANK.encode())


def make_normalizer(model: SentencePieceModel) -> Callable[[str], str]:
    """Build the function that replaces characters and blanks by the model's rules.

    Args:
        model: whose rules they are.

    Returns:
        A function; it may be called from several threads.

    Source: ``Normalizer::Normalize`` of google/sentencepiece's normalizer.cc.
    """
    match, begin, folded = _make_matcher(model), BLANK * model.leading_blank, model.folded
    plain = not model.units or not _replaces_plain(model.units, find_offset(model.units[0]), b"")
    blank = match(BLANK.encode(), 0)[0].decode()  # a blank too, by SentencePiece's own tables

    def replace(text: str) -> str:
        data, place, parts, after_blank = text.encode(), 0, [], folded
        while place < len(data):
            part, place = match(data, place)
            if after_blank:
                part = part.lstrip(b" ")
            if part:
                parts.append(part)
                after_blank = folded and part.endswith(b" ")
        return b"".join(parts).decode()

    def normalize(text: str) -> str:
        if not (plain and _PLAIN.fullmatch(text)):
            text = replace(text)
        else:
            text = text.replace(BLANK, blank)
            text = _BLANKS.sub(" ", text).lstrip() if folded else text
        if not text:
            return ""
        text = begin + text.replace(" ", BLANK)
        return text.rstrip(BLANK) if folded else text

    return normalize


def _make_matcher(model: SentencePieceModel) -> Callable[[bytes, int], tuple[bytes, int]]:
    """Build the function that gives what stands at a place, replaced by the longest rule, and the next place."""
    units, replacements = model.units, model.replacements
    root = find_offset(units[0]) if units else 0

    def match(data: bytes, place: int) -> tuple[bytes, int]:
        found, end, node = -1, place, root
        for at in range(place, len(data) if units else place):
            unit = units[node ^ data[at]]
            if unit & 0x800000FF != data[at]:
                break
            node ^= data[at] ^ find_offset(unit)
            if unit & 0x100:
                found, end = units[node] & 0x7FFFFFFF, at + 1
        if found >= 0:
            return replacements[found : replacements.index(0, found)], end
        end = place + 1
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        return data[place:end], end

    return match


def _replaces_plain(units: tuple[int, ...], node: int, begin: bytes) -> bool:
    """Whether a rule that begins so, at a node of the trie, is of printable ASCII and U+2581, but not U+2581 alone."""
    for value in _PLAIN_BYTES:
        unit, key = units[node ^ value], begin + bytes([value])
        if unit & 0x800000FF == value and (
            (unit & 0x100 and key != BLANK.encode()) or _replaces_plain(units, node ^ value ^ find_offset(unit), key)
        ):
            return True
    return False
