"""OpenAI's vocabulary for CLIP: 49,408 tokens and the merges that make them, read from and written to tokenizer.json.

The merges come with the package (MIT licence, see NOTICE); ``tools/make_clip_tokenizer.py`` makes their file.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipworks.errors import BundleError

START = "<|startoftext|>"
END = "<|endoftext|>"
WORD_END = "</w>"

_MERGES_FILE = Path(__file__).parent / "vocabulary" / "clip_merges.txt.gz"
_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)

# One visible character a byte: itself where it is one, else the next from U+0100 on.
BYTE_SYMBOLS: tuple[str, ...] = tuple(
    chr(byte if byte in _PRINTABLE else 256 + _OTHERS.index(byte)) for byte in range(256)
)


@dataclass(frozen=True, kw_only=True)
class ClipVocabulary:
    """Tokens and merges.

    Attributes:
        ids: token to id.
        ranks: ``"left right"`` to its rank; the lowest is merged first.
    """

    ids: dict[str, int]
    ranks: dict[str, int]


def read_clip_vocabulary(path: Path) -> ClipVocabulary:
    """Read the vocabulary from a tokenizer.json, ours or any other of a CLIP model.

    Args:
        path: the file.

    Raises:
        BundleError: the file is missing, no JSON, or not a byte-level BPE with word ends as CLIP has it.
    """
    try:
        model = json.loads(path.read_bytes())["model"]
        ids: dict[str, int] = model["vocab"]
        merges: list[Any] = model["merges"]
        suffix = model.get("end_of_word_suffix")
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{path} is not a tokenizer.json with a BPE vocabulary and merges") from None
    if suffix != WORD_END:
        raise BundleError(f"{path} has the word end {suffix!r}; CLIP's tokenizer has {WORD_END!r}")
    needed = (*BYTE_SYMBOLS, *(symbol + WORD_END for symbol in BYTE_SYMBOLS), START, END)
    missing = next((token for token in needed if token not in ids), None)
    if missing is not None:
        raise BundleError(f"{path} lacks the token {missing!r}, which CLIP's tokenizer needs")
    pairs = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return ClipVocabulary(ids=ids, ranks=dict(zip(pairs, range(len(pairs)), strict=True)))


@functools.cache
def built_in_vocabulary() -> ClipVocabulary:
    """OpenAI's own vocabulary, as it comes with the package."""
    merges = _read_merges()
    return ClipVocabulary(ids=_number_tokens(merges), ranks=dict(zip(merges, range(len(merges)), strict=True)))


def write_clip_tokenizer(path: Path) -> None:
    """Write OpenAI's tokenizer as a tokenizer.json, the same bytes every time.

    Other programs can run the file with the tokenizers library, which then cleans a text a little less than
    `clipworks.text.clip_rules` does.

    Args:
        path: the file to write.
    """
    path.write_bytes(_make_tokenizer())


@functools.cache  # for whoever converts many checkpoints: it takes longer than writing the towers of a small one
def _make_tokenizer() -> bytes:
    merges = _read_merges()
    ids = _number_tokens(merges)
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_describe_special(token, ids[token]) for token in (START, END)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": words},
                    "behavior": "Removed",
                    "invert": True,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special_step(START), {"Sequence": {"id": "A", "type_id": 0}}, _special_step(END)],
            "pair": [_special_step(START), {"Sequence": {"id": "A", "type_id": 0}}, _special_step(END)],
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in sorted((START, END))
            },
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": WORD_END,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": ids,
            "merges": merges,
        },
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _read_merges() -> list[str]:
    import gzip

    return gzip.decompress(_MERGES_FILE.read_bytes()).decode().split("\n")


def _number_tokens(merges: list[str]) -> dict[str, int]:
    symbols = [BYTE_SYMBOLS[byte] for byte in (*_PRINTABLE, *_OTHERS)]
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *(merge.replace(" ", "") for merge in merges)]
    return {token: number for number, token in enumerate([*tokens, START, END])}


def _describe_special(token: str, number: int) -> dict[str, object]:
    rules = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": token, **rules, "special": True}


def _special_step(token: str) -> dict[str, object]:
    return {"SpecialToken": {"id": token, "type_id": 0}}
