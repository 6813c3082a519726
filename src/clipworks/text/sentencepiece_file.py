"""SentencePiece's own file (``spiece.model``): pieces with their scores, and the rules that come before them.

A small reader of its protocol buffer, so that no other package is needed for it.

Source: sentencepiece_model.proto of google/sentencepiece, whose field numbers and defaults stand here.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from clipworks.errors import BundleError

_KINDS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
# What T5 fills gaps with: such pieces stand behind the vocabulary, and a model without gaps has no rows for them.
_SENTINEL = re.compile("▁?<extra_id_[0-9]+>")


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    """What a file of the kind unigram says.

    Attributes:
        pieces: what a text is cut into: the piece, a blank written as U+2581, to its score and its id.
        controls: pieces that no text is cut into, such as ``</s>``, to their ids.
        size: number of ids, those of T5's gaps at the end left out.
        unknown_id: of what stands for characters in no piece.
        byte_ids: the ids of the 256 bytes, which stand for such characters instead; empty where there are none.
        units: a double-array trie of Darts-clone over the UTF-8 of what is replaced, or empty; its values are places in
            ``replacements``.
        replacements: UTF-8, each ended by a zero.
        leading_blank: whether a text begins with a blank that is not its own.
        folded: whether blanks are folded, and dropped at both ends.
    """

    pieces: dict[str, tuple[float, int]]
    controls: dict[str, int]
    size: int
    unknown_id: int
    byte_ids: tuple[int, ...]
    units: tuple[int, ...]
    replacements: bytes
    leading_blank: bool
    folded: bool


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read a SentencePiece model of the kind unigram.

    Args:
        path: the file, ``spiece.model`` or ``sentencepiece.model``.

    Raises:
        BundleError: the file is missing or damaged, of another kind, or asks for something that clipworks does not do.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return _read_model(data)
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise BundleError(f"{path} is not a SentencePiece model that can be read: {error}") from None
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _read_model(data: bytes) -> SentencePieceModel:
    _, parts = _read_message(data)
    trainer, _ = _read_message(parts.get(2, [b""])[-1])
    normalizer, tables = _read_message(parts.get(3, [b""])[-1])
    rows = [_read_piece(part) for part in parts[1]]
    own = (piece for piece, _, kind in rows if kind == _USER_DEFINED and not _SENTINEL.fullmatch(piece))
    for name, found, allowed in (
        ("its kind", _KINDS.get(trainer.get(3, 1)), "unigram"),
        ("treat_whitespace_as_suffix", bool(trainer.get(24, 0)), False),
        ("escape_whitespaces", bool(normalizer.get(5, 1)), True),
        ("a piece of the user's own", next(own, None), None),
    ):
        if found != allowed:
            raise BundleError(f"{name} is {found!r}; allowed: {allowed!r}")
    places: dict[int, dict[str, int]] = {kind: {} for kind in range(_NORMAL, _BYTE + 1)}
    for number, (piece, _, kind) in enumerate(rows):
        places[kind][piece] = number
    if not places[_NORMAL] or len(places[_UNKNOWN]) != 1:
        raise ValueError(f"{len(places[_NORMAL])} pieces, and {len(places[_UNKNOWN])} for what is unknown")
    units, replacements = _read_rules(tables.get(2, [b""])[-1])
    return SentencePieceModel(
        pieces={piece: (rows[number][1], number) for piece, number in places[_NORMAL].items()},
        controls=places[_CONTROL],
        size=max(number + 1 for number, row in enumerate(rows) if not _SENTINEL.fullmatch(row[0])),
        unknown_id=next(iter(places[_UNKNOWN].values())),
        byte_ids=tuple(places[_BYTE][f"<0x{value:02X}>"] for value in range(256) if places[_BYTE]),
        units=units,
        replacements=replacements,
        leading_blank=bool(normalizer.get(3, 1)),
        folded=bool(normalizer.get(4, 1)),
    )


def find_offset(unit: int) -> int:
    """How far from a unit of the trie those that follow it stand, by exclusive or."""
    return (unit >> 10) << ((unit & 0x200) >> 6)


def _read_rules(rules: bytes) -> tuple[tuple[int, ...], bytes]:
    """Take the compiled table of replacements apart: the size of the trie, the trie, and what it leads to."""
    if not rules:
        return (), b""
    size = int.from_bytes(rules[:4], "little")
    units: tuple[int, ...] = struct.unpack(f"<{size // 4}I", rules[4 : 4 + size])
    # A unit with the highest bit is a value; of the others each must lead to a place within.
    if any(not unit >> 31 and place ^ find_offset(unit) | 0xFF >= len(units) for place, unit in enumerate(units)):
        raise ValueError("its table of replacements leads out of it")
    return units, rules[4 + size :]


def _read_piece(data: bytes) -> tuple[str, float, int]:
    numbers, parts = _read_message(data)
    return parts[1][-1].decode(), struct.unpack("<f", parts.get(2, [bytes(4)])[-1])[0], numbers.get(3, _NORMAL)


def _read_message(data: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """Read the fields of a message by their numbers: those that hold a number, and those that hold bytes."""
    numbers: dict[int, int] = {}
    parts: dict[int, list[bytes]] = {}
    place, end = 0, len(data)
    while place < end:
        key, place = _read_number(data, place)
        wire = key & 7
        if wire == 0:
            numbers[key >> 3], place = _read_number(data, place)
            continue
        if wire == 2:
            size, place = _read_number(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of the wire type {wire}")
        if place + size > end:
            raise ValueError("it ends too early")
        parts.setdefault(key >> 3, []).append(data[place : place + size])
        place += size
    return numbers, parts


def _read_number(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first, and the place behind it."""
    number, shift = data[place], 7
    if number >= 0x80:
        number &= 0x7F
        while True:
            place += 1
            number |= (data[place] & 0x7F) << shift
            shift += 7
            if data[place] < 0x80:
                break
    return number, place + 1
