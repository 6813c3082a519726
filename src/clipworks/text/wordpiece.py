"""WordPiece by the rules of Google's BERT, as cn_clip has them; equal id by id."""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from clipworks.errors import BundleError

START, END, PAD, UNKNOWN = "[CLS]", "[SEP]", "[PAD]", "[UNK]"
_INSIDE = "##"
"""Before a piece that does not begin a word."""
_LONGEST_WORD = 200
"""Characters; a longer one is unknown whole. In transformers it is 100."""
_KEPT_WORDS = 1 << 16
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def read_wordpiece(path: Path) -> dict[str, int]:
    """Read the pieces of a ``vocab.txt``, or of a ``tokenizer.json`` whose model is WordPiece, with their ids.

    Raises:
        BundleError: the file cannot be read, is neither, or lacks a token that every text needs.
    """
    try:
        text = path.read_text(encoding="utf-8")
        pieces = _read_json(text) if path.suffix == ".json" else _read_lines(text)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is no vocabulary of WordPiece: {error}") from None
    if missing := [name for name in (START, END, PAD, UNKNOWN) if name not in pieces]:
        raise BundleError(f"{path} is no vocabulary of BERT's: it lacks {missing[0]}")
    return pieces


def make_wordpiece_encoder(pieces: Mapping[str, int], *, lower: bool) -> Callable[[str], list[int]]:
    """Build the function from a text to its token ids, ``[CLS]`` and ``[SEP]`` around them.

    A token's name in a text, as ``[SEP]``, is text: only transformers makes the token of it.

    Args:
        pieces: as `read_wordpiece` gives them.
        lower: whether words are written in lower case and lose their accents.

    Returns:
        A function; it may be called from several threads.

    Source: ``FullTokenizer`` of cn_clip 1.6.0, and ``tokenize`` beside it.
    """
    # Words come back: every Chinese character is one.
    cut = functools.lru_cache(_KEPT_WORDS)(lambda word: tuple(_cut_word(word, pieces, longest, lower=lower)))
    longest, cleaned = max(map(len, pieces)), _CleanedCharacters()

    def encode(text: str) -> list[int]:
        ids = [pieces[START]]
        for word in text.translate(cleaned).split():
            ids += cut(word)
        ids.append(pieces[END])
        return ids

    return encode


class _CleanedCharacters(dict[int, str]):
    """What becomes of each character before a text is split: nothing, a blank, or a word of its own."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character in "\t\n\r" or category == "Zs":
            found = " "
        elif code in (0, 0xFFFD) or category in ("Cc", "Cf"):
            found = ""
        else:
            found = f" {character} " if any(low <= code <= high for low, high in _CHINESE) else character
        self[code] = found
        return found


def _cut_word(word: str, pieces: Mapping[str, int], longest: int, *, lower: bool) -> Iterator[int]:
    """The ids of what stands between two blanks."""
    if lower:
        word = "".join(c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn")
    spaced = "".join(f" {character} " if _is_punctuation(character) else character for character in word)
    for part in spaced.split():
        found = _find_pieces(part, pieces, longest)
        yield from [pieces[UNKNOWN]] if found is None else found


def _find_pieces(word: str, pieces: Mapping[str, int], longest: int) -> list[int] | None:
    """The longest piece first, then the longest of what is left; None where no piece begins it."""
    if len(word) > _LONGEST_WORD:
        return None
    ids: list[int] = []
    start, before = 0, ""
    while start < len(word):
        ends = range(min(len(word), start + longest), start, -1)
        end = next((end for end in ends if before + word[start:end] in pieces), None)
        if end is None:
            return None
        ids.append(pieces[before + word[start:end]])
        start, before = end, _INSIDE
    return ids


def _is_punctuation(character: str) -> bool:
    """Whether a character is a word of its own; of ASCII all that is no letter, digit or blank."""
    return (
        "!" <= character <= "/"
        or ":" <= character <= "@"
        or "[" <= character <= "`"
        or "{" <= character <= "~"
        or (unicodedata.category(character).startswith("P"))
    )


def _read_lines(text: str) -> dict[str, int]:
    lines = text.removesuffix("\n").split("\n")
    return {line.strip(): number for number, line in enumerate(lines)}


def _read_json(text: str) -> dict[str, int]:
    model = json.loads(text)["model"]
    said = (model.get("type"), model.get("continuing_subword_prefix", _INSIDE), model.get("unk_token", UNKNOWN))
    if said != ("WordPiece", _INSIDE, UNKNOWN):
        raise ValueError(f"its model is {said[0]!r} with {said[1]!r} and {said[2]!r}")
    return {str(piece): int(number) for piece, number in model["vocab"].items()}
