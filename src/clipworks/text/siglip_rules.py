"""SigLIP's text rules as transformers has them, with the pieces of its SentencePiece model; equal id by id."""

from __future__ import annotations

import re
from collections.abc import Callable

from clipworks.errors import BundleError
from clipworks.text.cleaning import clean_as_transformers, replace_surrogates
from clipworks.text.sentencepiece import make_piece_encoder
from clipworks.text.sentencepiece_file import SentencePieceModel
from clipworks.text.sentencepiece_rules import BLANK

END = "</s>"

_SPECIALS = re.compile(f"({END}|<unk>)")


def make_siglip_encoder(model: SentencePieceModel) -> Callable[[str], list[int]]:
    """Build the function from a text to its token ids, the end token included.

    What stands before and behind a literal ``</s>`` or ``<unk>`` is cleaned and cut by itself. Each part is cut behind
    the characters of ``<unk>``, whose pieces are then taken off again, as many as they are by themselves: where the
    vocabulary lacks ">" and what follows, one unknown stands for both, and goes with it. So does the reference.

    Args:
        model: the pieces; it has ``</s>``.

    Returns:
        A function; it may be called from several threads.

    Raises:
        BundleError: the model has no ``</s>``.

    Source: ``SiglipTokenizer`` of transformers 5.23.
    """
    if END not in model.controls:
        raise BundleError(f"the SentencePiece model has no piece {END}, which SigLIP's rules need")
    cut = make_piece_encoder(model)
    taken_off = len(cut("<unk>"))
    specials = {END: model.controls[END], "<unk>": model.unknown_id}

    def encode(text: str) -> list[int]:
        row: list[int] = []
        if not text.isascii():
            text = replace_surrogates(text)
        for part in _SPECIALS.split(BLANK + text.replace(BLANK, " ")):
            if part in specials:
                row.append(specials[part])
            elif part:
                ids = cut("<unk>" + clean_as_transformers(part))
                row += ids[taken_off:] if len(ids) >= taken_off else ids
        row.append(specials[END])
        return row

    return encode
