"""Texts -> token ids: int32 ``[n, length]``, padded no further than the longest text of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipworks.bundle.card import Cleaning, TextSpec
from clipworks.display import quote_text
from clipworks.errors import BundleError, TextError, UsageError
from clipworks.text.clip_vocabulary import write_clip_tokenizer
from clipworks.text.unread import Check, find_fragments, warn_unread

Ids = NDArray[np.int32]

_QUOTED_LENGTH = 40
_BROUGHT: dict[str, tuple[Cleaning, ...]] = {
    "clip": ("none",),
    "siglip": ("transformers",),
    "wordpiece": ("none", "lower"),
}
"""The cleaning that rules bring themselves."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A model's tokenizer; `open_tokenizer` makes one. It may be called from several threads.

    Attributes:
        text: the card's rules for texts.
    """

    text: TextSpec
    _encode: Callable[[str], list[int]]
    _empty_length: int
    _is_unread: Check
    _bytewise: bool
    _said: list[str] = field(default_factory=list)

    def encode(self, texts: Sequence[str], *, truncate: bool = False) -> Ids:
        """Turn texts into one batch.

        Args:
            texts: the texts, in any language.
            truncate: cut a text that is longer than the context, its end token kept, instead of raising.

        Returns:
            int32 ``[n, length]``: ``length`` is that of the longest text, start and end tokens counted, or the context
            where the model takes no other; no text gives ``[0, context]``.

        Raises:
            TextError: a text is empty, or over the context and not to be cut; the message names it.
            UsageError: ``texts`` is one string, or holds something that is none.
        """
        return self.pad(self.encode_ragged(texts, truncate=truncate))

    def encode_ragged(self, texts: Sequence[str], *, truncate: bool = False) -> list[Ids]:
        """Turn texts into ids as `encode`, int32 ``[length]`` each, without padding; `pad` makes a batch of them."""
        if isinstance(texts, str):
            raise UsageError("texts must be a list of texts, not one string")
        rows = [self._encode_one(number, text, truncate=truncate) for number, text in enumerate(texts)]
        self._tell_unread(texts, rows)
        return rows

    def pad(self, rows: Sequence[Ids]) -> Ids:
        """Make one batch ``[n, length]`` of rows that `encode_ragged` gave, as `encode` does."""
        longest = max(map(len, rows), default=self.text.context)
        length = longest if self.text.padding == "none" else self.text.context
        batch = np.full((len(rows), length), self.text.pad_id, dtype=np.int32)
        for padded, row in zip(batch, rows, strict=True):
            padded[: len(row)] = row
        return batch

    def _tell_unread(self, texts: Sequence[str], rows: Sequence[Ids]) -> None:
        """Warn once of texts that cannot be read; every byte of ASCII is a character."""
        if self._said:
            return
        pairs = [pair for pair in zip(texts, rows, strict=True) if not (self._bytewise and pair[0].isascii())]
        unread = [text for text, ids in pairs if self._is_unread(ids.tolist())]
        if unread:
            self._said.append(unread[0])
            warn_unread([_shorten(text) for text in unread], bytewise=self._bytewise)

    def _encode_one(self, number: int, text: str, *, truncate: bool) -> Ids:
        if not isinstance(text, str):
            raise UsageError(f"texts[{number}] is of type {type(text).__name__}; it must be a string")
        ids = self._encode(text)
        if len(ids) <= self._empty_length or not text.strip():
            what = f"{quote_text(_shorten(text))} holds nothing to read" if text.strip() else "is empty"
            raise _refuse(text, f"texts[{number}] {what}; every text needs at least one word")
        if len(ids) > self.text.context:
            if not truncate:
                raise _refuse(
                    text,
                    f"texts[{number}] {quote_text(_shorten(text))} has {len(ids)} tokens; the model takes at most "
                    f"{self.text.context}, start and end tokens counted",
                    hint="shorten it, or let it be cut: truncate=True",
                    argument="truncate",
                )
            ids = [*ids[: self.text.context - 1], ids[-1]]
        return np.array(ids, dtype=np.int32)


def _refuse(text: str, message: str, *, hint: str | None = None, argument: str | None = None) -> TextError:
    error = TextError(message, hint=hint, argument=argument)
    error.text = text
    return error


def open_tokenizer(path: Path | None, text: TextSpec) -> Tokenizer:
    """Open a bundle's tokenizer.

    Args:
        path: its ``tokenizer.json``; None for OpenAI's own vocabulary, which wants the tokenizer ``clip``.
        text: the card's rules: ``clip`` runs OpenAI's own rules with the file's vocabulary, ``siglip`` SigLIP's with
            the file's pieces, ``wordpiece`` BERT's with the file's, ``file`` whatever the file describes, by the
            tokenizers library.

    Raises:
        BundleError: the file is missing, cannot be read, has more tokens than the model, or contradicts the card.
    """
    if text.tokenizer == "clip":
        from clipworks.text.clip_rules import make_clip_encoder
        from clipworks.text.clip_vocabulary import built_in_vocabulary, read_clip_vocabulary

        vocabulary = built_in_vocabulary() if path is None else read_clip_vocabulary(path)
        encode, size, check = make_clip_encoder(vocabulary), len(vocabulary.ids), find_fragments(vocabulary)
    elif path is None:
        raise UsageError(f"OpenAI's vocabulary goes with OpenAI's rules; this card says tokenizer is {text.tokenizer}")
    elif text.tokenizer == "siglip":
        from clipworks.text.sentencepiece_file import read_sentencepiece
        from clipworks.text.siglip_rules import make_siglip_encoder

        model = read_sentencepiece(path)
        encode, size, check = make_siglip_encoder(model), model.size, lambda ids: model.unknown_id in ids
    elif text.tokenizer == "wordpiece":
        from clipworks.text.wordpiece import UNKNOWN, make_wordpiece_encoder, read_wordpiece

        pieces = read_wordpiece(path)
        encode = make_wordpiece_encoder(pieces, lower=text.cleaning == "lower")
        size, check = max(pieces.values()) + 1, lambda ids: pieces[UNKNOWN] in ids
    else:
        from clipworks.text.library_file import open_file

        encode, size, check = open_file(path, text.cleaning)
    if size > text.vocabulary:
        raise BundleError(f"{path} has {size} tokens, but the model only {text.vocabulary}")
    _check_ends(path, encode(""), text)
    return Tokenizer(
        text=text,
        _encode=encode,
        _empty_length=len(encode("")),
        _is_unread=check,
        _bytewise=text.tokenizer == "clip",
    )


def write_tokenizer(path: Path, source: Path | None, text: TextSpec) -> None:
    """Copy a model's own tokenizer into a bundle, or write OpenAI's.

    A large vocabulary of the tokenizers library gets a table beside it, which opens at once.

    A file for the tokenizers library that puts other tokens around a text than the card says gets those: libraries
    that read a folder's settings beside it do that when they open it.

    Args:
        path: the bundle's file.
        source: the model's; None for OpenAI's.
        text: the card's rules.

    Raises:
        BundleError: it cannot be read, or the bundle could not open it.
    """
    if source is None:
        write_clip_tokenizer(path)
        return
    try:
        path.write_bytes(source.read_bytes())
    except OSError as error:
        raise BundleError(f"the tokenizer {source} cannot be copied: {error.strerror}") from None
    if text.tokenizer == "file":
        from clipworks.text.library_file import write_beside, write_ends

        write_ends(path, text)
        write_beside(path)
    open_tokenizer(path, text)


def _check_ends(path: Path | None, found: list[int], text: TextSpec) -> None:
    """Refuse a file that puts other tokens around a text than the card says, where it says any."""
    said = [token for token in (text.start_id, text.end_id) if token is not None]
    if said and found != said:
        file = "OpenAI's vocabulary" if path is None else path
        raise BundleError(f"{file} makes the ids {found} of an empty text; the card says {said}")
    allowed = _BROUGHT.get(text.tokenizer, (text.cleaning,))
    if text.cleaning not in allowed:
        ways = f"allowed beside the tokenizer {text.tokenizer}: {' or '.join(allowed)}"
        raise BundleError(f"the card says cleaning is {text.cleaning}; {ways}")


def _shorten(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= _QUOTED_LENGTH else shown[: _QUOTED_LENGTH - 3] + "..."
