"""What is done to a text before its tokenizer sees it.

SigLIP's references each do it a little otherwise, so that a way carries the name of the one that it follows. To
transformers "_" is punctuation, to the others a blank; a capital sigma before punctuation ends a word for transformers
alone, which looks before it deletes; only open_clip repairs a text first.
"""

from __future__ import annotations

import string
from collections.abc import Callable

from clipworks.bundle.card import Cleaning

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean_as_transformers(text: str) -> str:
    """Write in lower case, delete ASCII's punctuation ("_" is some) and fold white space.

    Source: ``SiglipTokenizer.canonicalize_text`` of transformers.
    """
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def clean_as_big_vision(text: str) -> str:
    """Make "_" a blank, delete ASCII's punctuation, write in lower case and fold white space.

    Source: ``_canonicalize`` of big_vision's evaluators/proj/image_text/prompt_engineering.py.
    """
    return " ".join(text.replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


def clean_as_open_clip(text: str) -> str:
    """Repair broken encodings and resolve HTML entities twice; then as big_vision.

    Source: ``_clean_canonicalize`` of open_clip's tokenizer.py.
    """
    return clean_as_big_vision(text if is_plain(text) else repair_text(text))


def is_plain(text: str) -> bool:
    """Whether `repair_text` changes nothing in a text; importing ftfy alone takes a tenth of a second."""
    return text.isascii() and text.isprintable() and "&" not in text


def repair_text(text: str) -> str:
    """Repair broken encodings and resolve HTML entities twice, as OpenAI's ``basic_clean`` does."""
    import html

    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text)))


def replace_surrogates(text: str) -> str:
    """Make of each lone surrogate, which no encoding of a text can hold, U+FFFD, and of each pair its character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


CLEANINGS: dict[Cleaning, Callable[[str], str]] = {
    "transformers": clean_as_transformers,
    "big_vision": clean_as_big_vision,
    "open_clip": clean_as_open_clip,
}
"""The others, ``none`` and ``lower``, need none: the latter is the tokenizers library's own."""
