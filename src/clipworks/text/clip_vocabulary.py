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
VOCABULARY, START_ID, END_ID = 49408, 49406, 49407
"""How many tokens it has, and the ids of these two."""
WORD_END = "</w>"

_FOLDER = Path(__file__).parent / "vocabulary"
_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)

# One visible character a byte: itself where it is one, else the next from U+0100 on.
BYTE_SYMBOLS: tuple[str, ...] = tuple(
    chr(byte if byte in _PRINTABLE else 256 + _OTHERS.index(byte)) for byte in range(256)
)


@dataclass(frozen=True, kw_only=True)
class ClipVocabulary:
    """Tokens to ids, and merges ``"left right"`` to ranks, of which the lowest comes first."""

    ids: dict[str, int]
    ranks: dict[str, int]

    @functools.cached_property
    def tokens(self) -> dict[int, str]:
        """Ids to tokens."""
        return {place: token for token, place in self.ids.items()}


def read_clip_vocabulary(path: Path) -> ClipVocabulary:
    """Read the vocabulary from a tokenizer.json, ours or any other of a CLIP model.

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
    """
    path.write_bytes(_make_tokenizer())


def read_character_classes() -> tuple[str, str]:
    """Which characters are letters and which are numbers to the tokenizer: hexadecimal code points and ranges.

    The general categories L* and N* as the regex package 2026.11.15 knows them, written down so that the tokens do not
    change with the Unicode version of Python or of a library.
    """
    letters, numbers = (_FOLDER / "clip_characters.txt").read_text(encoding="ascii").split("\n\n")
    return letters, numbers


@functools.cache  # for whoever converts many checkpoints: it takes longer than writing the towers of a small one
def _make_tokenizer() -> bytes:
    content = json.loads((_FOLDER / "clip_tokenizer.json").read_text(encoding="utf-8"))
    merges = _read_merges()
    content["model"] |= {"vocab": _number_tokens(merges), "merges": merges}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _read_merges() -> list[str]:
    import gzip

    return gzip.decompress((_FOLDER / "clip_merges.txt.gz").read_bytes()).decode().split("\n")


def _number_tokens(merges: list[str]) -> dict[str, int]:
    symbols = [BYTE_SYMBOLS[byte] for byte in (*_PRINTABLE, *_OTHERS)]
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *(merge.replace(" ", "") for merge in merges)]
    return {token: number for number, token in enumerate([*tokens, START, END])}
