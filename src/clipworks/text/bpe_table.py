"""A large BPE of the tokenizers library as a table beside its tokenizer.json, which opens without reading that.

Gemma's 256,000 tokens take the library seconds and half a gigabyte. The table has what cutting a text needs: the ids of
single characters and of bytes, and the merges by ids, sorted; it is mapped, so that only what is looked up is read. It
names the checksum of the file that it was made from, and is made only where `clipworks.text.bpe` does all that the file
asks for.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SUFFIX = ".table"
"""Added to the tokenizer.json's name."""
LEAST = 100_000
"""Tokens of the smallest vocabulary that gets a table: the library opens a smaller one in half a second."""
_FORMAT = "clipworks BPE table 1"
_ARRAYS = (("characters", "<u4"), ("character_ids", "<u4"), ("pairs", "<u8"), ("ranks", "<u4"), ("merged", "<u4"))
_BLANKS: dict[str, object] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_LOWER: dict[str, object] = {"type": "Lowercase"}
# What may come before the split, and whether it writes in lower case.
_NORMALIZERS: tuple[tuple[dict[str, object], bool], ...] = (
    (_BLANKS, False),
    ({"type": "Sequence", "normalizers": [_BLANKS]}, False),
    ({"type": "Sequence", "normalizers": [_LOWER, _BLANKS]}, True),
)
# On a text without blanks it does nothing.
_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
_MODEL: dict[str, tuple[object, ...]] = {
    "type": ("BPE",),
    "dropout": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (True,),
    "ignore_merges": (False, None),
}


@dataclass(frozen=True, kw_only=True)
class BpeFacts:
    """What a table says beside its arrays.

    Attributes:
        source_sha256: of the tokenizer.json, hex digits.
        size: number of ids.
        unknown_id: of the unknown token, or None.
        before: ids before every text.
        behind: ids behind it.
        added: tokens that a text is parted at before anything else, to their ids.
        bytes: the ids of the 256 bytes, for characters that have none.
        lower: whether the file itself writes texts in lower case.
        by_words: whether no merge reaches over the beginning of a word, so that words can be cut one by one.
    """

    source_sha256: str
    size: int
    unknown_id: int | None
    before: tuple[int, ...]
    behind: tuple[int, ...]
    added: dict[str, int]
    bytes: tuple[int, ...]
    lower: bool
    by_words: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class BpeTable:
    """A BPE.

    Attributes:
        facts: all that is no array.
        characters: code points that are tokens, sorted, uint32.
        character_ids: their ids.
        pairs: what is merged, ``left id << 32 | right id``, sorted, uint64.
        ranks: of these merges, the lowest first.
        merged: ids of what they make.
    """

    facts: BpeFacts
    characters: npt.NDArray[np.uint32]
    character_ids: npt.NDArray[np.uint32]
    pairs: npt.NDArray[np.uint64]
    ranks: npt.NDArray[np.uint32]
    merged: npt.NDArray[np.uint32]


def make_table(content: bytes) -> BpeTable | None:
    """Make the table of a tokenizer.json's bytes; None where the file asks for more than `clipworks.text.bpe` does."""
    values = json.loads(content)
    model = values["model"]
    if not _is_covered(values):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    ends = _read_ends(values["post_processor"])
    byte_ids = [vocabulary.get(f"<0x{value:02X}>") for value in range(256)]
    if ends is None or None in byte_ids:
        return None
    single = sorted((ord(token), number) for token, number in vocabulary.items() if len(token) == 1)
    merges: dict[int, tuple[int, int]] = {}
    by_words = True
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges[vocabulary[left] << 32 | vocabulary[right]] = rank, vocabulary[left + right]
        by_words = by_words and not (right[0] == "▁" and left[-1] != "▁")
    added = {token["content"]: token["id"] for token in values["added_tokens"]}
    pairs = sorted(merges)
    return BpeTable(
        facts=BpeFacts(
            source_sha256=hashlib.sha256(content).hexdigest(),
            size=len({*vocabulary, *added}),
            unknown_id=vocabulary.get(model["unk_token"] or "", added.get(model["unk_token"] or "")),
            before=ends[0],
            behind=ends[1],
            added=added,
            bytes=tuple(number for number in byte_ids if number is not None),
            lower=next(lower for form, lower in _NORMALIZERS if form == values["normalizer"]),
            by_words=by_words,
        ),
        characters=np.array([code for code, _ in single], np.uint32),
        character_ids=np.array([number for _, number in single], np.uint32),
        pairs=np.array(pairs, np.uint64),
        ranks=np.array([merges[pair][0] for pair in pairs], np.uint32),
        merged=np.array([merges[pair][1] for pair in pairs], np.uint32),
    )


def write_table(path: Path, table: BpeTable) -> None:
    """Write a table beside the tokenizer.json ``path``: a line of JSON, then its arrays."""
    arrays = [(name, np.ascontiguousarray(getattr(table, name), kind)) for name, kind in _ARRAYS]
    head = {"format": _FORMAT, "lengths": [len(array) for _, array in arrays], "facts": asdict(table.facts)}
    line = json.dumps(head, separators=(",", ":")).encode()
    body = line + b" " * (-(len(line) + 1) % 8) + b"\n"
    for _, array in arrays:
        body += array.tobytes() + b"\0" * (-array.nbytes % 8)
    name_table(path).write_bytes(body)


def read_table(path: Path) -> BpeTable | None:
    """Map the table beside a tokenizer.json; None where there is none, it is damaged, or made from another file."""
    try:
        with name_table(path).open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        line = content.readline()
        head = json.loads(line)
        facts: dict[str, Any] = head["facts"]
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if head["format"] != _FORMAT or found != facts["source_sha256"]:
            return None
        arrays: dict[str, npt.NDArray[Any]] = {}
        place = len(line)
        for (name, kind), length in zip(_ARRAYS, head["lengths"], strict=True):
            arrays[name] = np.frombuffer(content, kind, length, place)
            place += arrays[name].nbytes + -arrays[name].nbytes % 8
        lists = {name: tuple(facts[name]) for name in ("before", "behind", "bytes")}
        return BpeTable(
            facts=BpeFacts(
                source_sha256=facts["source_sha256"],
                size=facts["size"],
                unknown_id=facts["unknown_id"],
                added=facts["added"],
                lower=facts["lower"],
                by_words=facts["by_words"],
                **lists,
            ),
            **arrays,
        )
    except (OSError, ValueError, KeyError, TypeError):  # ValueError: an empty file, no JSON, or one cut short
        return None


def name_table(path: Path) -> Path:
    """The table's place beside a tokenizer.json."""
    return path.with_name(path.name + SUFFIX)


def _is_covered(values: dict[str, Any]) -> bool:
    model = values["model"]
    return (
        all(model.get(name) in allowed for name, allowed in _MODEL.items())
        and any(values["normalizer"] == form for form, _ in _NORMALIZERS)
        and values["pre_tokenizer"] in (None, _SPLIT)
        and not any(token[name] for token in values["added_tokens"] for name in ("single_word", "lstrip", "rstrip"))
        and not any(token["normalized"] for token in values["added_tokens"])
    )


def _read_ends(processor: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The ids before and behind a text, or None for another kind of processor than a template."""
    if processor is None:
        return (), ()
    if processor["type"] != "TemplateProcessing":
        return None
    before: list[int] = []
    behind: list[int] = []
    seen = False
    for part in processor["single"]:
        if "Sequence" in part:
            seen = True
        else:
            (behind if seen else before).extend(processor["special_tokens"][part["SpecialToken"]["id"]]["ids"])
    return tuple(before), tuple(behind)
