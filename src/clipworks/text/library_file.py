"""A tokenizer.json, which says by itself what is done: run by the tokenizers library, or by the table beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clipworks.bundle.card import Cleaning, TextSpec
from clipworks.errors import BundleError
from clipworks.text.bpe import make_bpe_encoder
from clipworks.text.bpe_table import LEAST, make_table, read_table, write_table
from clipworks.text.cleaning import CLEANINGS, replace_surrogates
from clipworks.text.unread import Check, find_unknown

# Texts that a table must give the library's ids of: scripts, blanks, what is in no vocabulary, a special token's name.
_PROBES = (
    "a photo of a dog",
    "  Two  cafés &amp; 128 Größen:\tthe LAUNCH of a rocket!\n\n",
    "一只猫 и собака, γάτα ΟΔΟΣ, कुत्ता, ქართული, 🦄👩‍👩‍👧",
    "<bos>▁▁<eos><unk><0x41> <table>İ\u0130\ufeff\U0001f9ff",
)


def open_file(path: Path, cleaning: Cleaning) -> tuple[Callable[[str], list[int]], int, Check]:
    """Open a tokenizer.json: by its table where it has one, else with the library.

    Args:
        path: the file.
        cleaning: what is done to a text before.

    Returns:
        The function from a text to its ids, how many ids there are, and what finds texts that cannot be read.

    Raises:
        BundleError: it is missing, or cannot be read.
    """
    if (table := read_table(path)) is None:
        return open_with_library(path, cleaning)
    cut, clean, unknown = (
        make_bpe_encoder(table, lower=cleaning == "lower"),
        CLEANINGS.get(cleaning),
        table.facts.unknown_id,
    )
    return (lambda text: cut(text if clean is None else clean(text))), table.facts.size, lambda ids: unknown in ids


def write_ends(path: Path, text: TextSpec) -> None:
    """Make a file put around a text what the card says, where it says it and the file does otherwise."""
    encode, _, _ = open_with_library(path, "none")
    said = [token for token in (text.start_id, text.end_id) if token is not None]
    if not said or encode("") == said:
        return
    from tokenizers import Tokenizer as LibraryTokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = LibraryTokenizer.from_file(str(path))
    names = [(tokenizer.id_to_token(token), token) for token in said]
    missing = [token for name, token in names if name is None]
    if missing:
        raise BundleError(f"{path.name} has no token {missing[0]}, which the model needs around a text")
    before = [f"{tokenizer.id_to_token(text.start_id)}:0"] if text.start_id is not None else []
    behind = [f"{tokenizer.id_to_token(text.end_id)}:0"] if text.end_id is not None else []
    tokenizer.post_processor = TemplateProcessing(single=[*before, "$A:0", *behind], special_tokens=names)
    tokenizer.save(str(path), pretty=False)


def write_beside(path: Path) -> None:
    """Write the table of a large vocabulary, where it gives the same ids as the library."""
    encode, size, _ = open_with_library(path, "lower")
    if size < LEAST or (table := make_table(path.read_bytes())) is None:
        return
    own = make_bpe_encoder(table, lower=True)
    if all(own(text) == encode(text) for text in _PROBES):
        write_table(path, table)


def open_with_library(path: Path, cleaning: Cleaning) -> tuple[Callable[[str], list[int]], int, Check]:
    """As `open_file`, always with the library."""
    from tokenizers import Tokenizer as LibraryTokenizer
    from tokenizers.normalizers import Lowercase
    from tokenizers.normalizers import Sequence as NormalizerSequence

    try:
        tokenizer = LibraryTokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001  # the library raises nothing narrower
        raise BundleError(f"{path} is not a tokenizer.json that can be read: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # Within the library: a special token keeps its case there, and no other text becomes one in lower case.
    if cleaning == "lower":
        others = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = NormalizerSequence([Lowercase(), *others])
    clean = CLEANINGS.get(cleaning)

    def encode(text: str) -> list[int]:
        text = text if clean is None else clean(text)
        # One by one: whole batches start threads, which make a later fork of the process unsafe, for little speed.
        try:
            ids: list[int] = tokenizer.encode(text).ids
        except (TypeError, UnicodeEncodeError):  # a lone surrogate
            ids = tokenizer.encode(replace_surrogates(text)).ids
        return ids

    return encode, tokenizer.get_vocab_size(), find_unknown(tokenizer)
