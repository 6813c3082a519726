"""Texts that a tokenizer cannot read: their embeddings are computed all the same, and say little or nothing."""

from __future__ import annotations

import functools
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from clipworks.display import quote_text
from clipworks.errors import ClipworksWarning
from clipworks.text.clip_vocabulary import BYTE_SYMBOLS, WORD_END, ClipVocabulary

Check = Callable[[Sequence[int]], bool]
"""Takes the ids of a text and says whether it holds a word that cannot be read."""
_UNKNOWN = ("[UNK]", "<unk>")


def find_unknown(tokenizer: Any) -> Check:
    """Find words that a tokenizer of the tokenizers library replaces by its unknown token, one like the other."""
    names = [name for name in (getattr(tokenizer.model, "unk_token", None), *_UNKNOWN) if name]
    unknown = next((place for name in names if (place := tokenizer.token_to_id(name)) is not None), None)
    return lambda ids: unknown is not None and unknown in ids


def find_fragments(vocabulary: ClipVocabulary) -> Check:
    """Find words of characters that OpenAI's vocabulary lacks: it has every byte, so that they fall apart into bytes.

    A word counts where more than half of its tokens are no whole characters: Chinese and Greek, not French or Persian.
    """
    bytes_of = {symbol: bytes([value]) for value, symbol in enumerate(BYTE_SYMBOLS)}

    @functools.cache
    def look_at(place: int) -> tuple[bytes, bool, bool]:
        """The bytes of a token, whether they are no whole characters, and whether it ends a word."""
        token = vocabulary.tokens[place]
        # A vocabulary of others may hold tokens that are written otherwise; those are whole.
        content = b"".join(bytes_of.get(symbol) or symbol.encode() for symbol in token.removesuffix(WORD_END))
        return content, "\ufffd" in content.decode(errors="replace"), token.endswith(WORD_END)

    def check(ids: Sequence[int]) -> bool:
        word, tokens, fragments = b"", 0, 0
        for place in ids[1:-1]:
            content, fragment, ends = look_at(place)
            word, tokens, fragments = word + content, tokens + 1, fragments + fragment
            if ends:
                if 2 * fragments > tokens and _is_seen(word):
                    return True
                word, tokens, fragments = b"", 0, 0
        return 2 * fragments > tokens and _is_seen(word)  # a text may have been cut within a word

    return check


def _is_seen(word: bytes) -> bool:
    """Whether there is anything to see in a word: joiners are words to this vocabulary too."""
    return any(unicodedata.category(character)[0] in "LNS" for character in word.decode(errors="replace"))


def warn_unread(texts: Sequence[str], *, bytewise: bool) -> None:
    """Warn of texts that a model cannot read: by bytes only, or with all words that it does not know as one."""
    said = (
        "characters that are in no word of its vocabulary are read byte by byte, and the model may hardly know them"
        if bytewise
        else "words that it does not know are all the same to it"
    )
    others = f" and {len(texts) - 1:,} more" if len(texts) > 1 else ""
    message = f"the tokenizer of this model cannot read {quote_text(texts[0])}{others}: {said}"
    warnings.warn(message, ClipworksWarning, stacklevel=2)
