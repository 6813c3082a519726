"""Texts become the token ids that SigLIP's references give, padded as the tower takes them, or an error."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipworks.bundle.card import TextSpec
from clipworks.errors import BundleError, TextError
from clipworks.text.cleaning import clean_as_big_vision, clean_as_open_clip, clean_as_transformers
from clipworks.text.sentencepiece import make_piece_encoder
from clipworks.text.sentencepiece_file import read_sentencepiece
from clipworks.text.tokenizers import Tokenizer, open_tokenizer

GOLDEN = Path(__file__).parent / "golden" / "siglip.json.gz"
FIXED = TextSpec(tokenizer="file", context=64, padding="fixed", pad_id=1, end_id=1, vocabulary=1000)
ENGLISH = replace(FIXED, tokenizer="siglip", cleaning="transformers", file="spiece.model")
RULES = {
    "transformers english": ENGLISH,
    "transformers multilingual": ENGLISH,
    "transformers gemma": replace(FIXED, cleaning="lower", pad_id=0),
    "open_clip english": replace(FIXED, cleaning="open_clip"),
    "open_clip gemma": replace(FIXED, cleaning="open_clip", pad_id=0),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    return content


@pytest.fixture(scope="module")
def files(golden: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the golden vocabularies."""
    folder = tmp_path_factory.mktemp("siglip")
    for name, content in golden["files"].items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(base64.b64decode(content))
    return folder


@pytest.fixture(scope="module")
def english(files: Path) -> Tokenizer:
    return open_tokenizer(files / "english/spiece.model", ENGLISH)


@pytest.mark.parametrize("name", RULES)
def test_ids_equal_the_reference_on_the_golden_strings(name: str, files: Path, golden: dict[str, Any]) -> None:
    """All kinds of text, cut and padded to 64 as SiglipTokenizer, Siglip2Tokenizer and open_clip's HFTokenizer do."""
    reference, rules = golden["references"][name], RULES[name]
    tokenizer = open_tokenizer(files / reference["file"], rules)
    different, compared = [], 0
    for text, ids in zip(golden["texts"], reference["ids"], strict=True):
        try:
            found = tokenizer.encode([text], truncate=True)[0].tolist()
        except TextError:  # there is nothing to read, which the references take
            assert not text.strip() or ids in ([], [1])
            continue
        compared += 1
        if found != ids + [rules.pad_id] * (64 - len(ids)):
            different.append((text, found, ids))
    assert compared > 1000
    assert different == []


def test_looking_words_up_changes_nothing(files: Path, golden: dict[str, Any]) -> None:
    """The second time, each word is known; nearly equal ways, as of a letter repeated, are cut as a whole text is."""
    encode = make_piece_encoder(read_sentencepiece(files / "english/spiece.model"))
    first = [encode(text) for text in golden["texts"]]
    assert [encode(text) for text in golden["texts"]] == first
    assert len(encode("l" * 5000)) > 2000


@pytest.mark.parametrize(
    ("text", "transformers", "open_clip"),
    [
        ("A_b, c!", "ab c", "a b c"),
        ("  two\t\u3000words \n", "two words", "two words"),
        ("ΑΣ-Β", "αςβ", "ασβ"),
        ("fish &amp;amp; chips", "fish ampamp chips", "fish chips"),
        ("schÃ¶n", "schã¶n", "schön"),
        ("{}'s 1,000 ！", "s 1000 ！", "s 1000"),
    ],
)
def test_each_cleaning_is_that_of_its_reference(text: str, transformers: str, open_clip: str) -> None:
    assert clean_as_transformers(text) == transformers
    assert clean_as_open_clip(text) == open_clip


def test_big_vision_repairs_nothing() -> None:
    assert clean_as_big_vision("ΑΣ-Β &amp; A_b schÃ¶n") == "ασβ amp a b schã¶n"


def test_lower_case_does_not_look_around_and_makes_no_special_token(files: Path) -> None:
    lower = open_tokenizer(files / "gemma/tokenizer.json", RULES["transformers gemma"])
    as_is = open_tokenizer(files / "gemma/tokenizer.json", replace(RULES["transformers gemma"], cleaning="none"))
    assert lower.encode(["A Dog, ΟΔΟΣ"]).tolist() == as_is.encode(["a dog, οδοσ"]).tolist()
    assert 1 in as_is.encode(["<eos>a"])[0, :1]
    assert 1 not in lower.encode(["<EOS>a"])[0, :3]


def test_every_text_is_as_long_as_the_context(english: Tokenizer) -> None:
    batch = english.encode(["a dog", "a photo of a dog in the snow"])
    assert batch.shape == (2, 64)
    assert (batch[:, -1] == 1).all()


def test_a_text_over_the_context_is_named_or_cut_before_its_end(english: Tokenizer, files: Path) -> None:
    long = "dog " * 80
    with pytest.raises(TextError, match=r"texts\[0\] .* tokens; the model takes at most 64"):
        english.encode([long])
    whole = open_tokenizer(files / "english/spiece.model", replace(ENGLISH, context=1000)).encode([long])[0]
    assert english.encode([long], truncate=True)[0].tolist() == [*whole[:63].tolist(), 1]


@pytest.mark.parametrize("text", ["", "  ", "...", "_", "▁", "\u200b"])
def test_a_text_of_nothing_is_named(english: Tokenizer, text: str) -> None:
    with pytest.raises(TextError, match=r"texts\[0\] .*every text needs at least one word"):
        english.encode([text])


def test_blanks_alone_are_nothing_though_they_are_tokens(files: Path) -> None:
    tokenizer = open_tokenizer(files / "gemma/tokenizer.json", RULES["transformers gemma"])
    with pytest.raises(TextError, match=r"texts\[0\] is empty"):
        tokenizer.encode(["  "])


def test_sentencepiece_folds_blanks_itself(files: Path) -> None:
    """SigLIP's cleaning leaves none to fold; the pieces are right without it too."""
    encode = make_piece_encoder(read_sentencepiece(files / "english/spiece.model"))
    assert encode("  a   dog ") == encode("a dog")
    assert encode("\u3000a \xa0 dóg\n") == encode("a dóg")
    assert encode("   ") == encode("\n") == encode("") == []


def test_a_lone_surrogate_is_replaced(english: Tokenizer) -> None:
    assert english.encode(["dog \ud800"]).tolist() == english.encode(["dog \ufffd"]).tolist()


def test_an_unknown_character_is_told(english: Tokenizer) -> None:
    with pytest.warns(Warning, match="cannot read"):
        replace(english, _said=[]).encode(["a dog 𒀀"])


def make_piece(piece: str, score: float = -1.0, kind: int = 1) -> bytes:
    text = piece.encode()
    content = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(content)]) + content


SPECIALS = make_piece("<pad>", 0, 3) + make_piece("</s>", 0, 3) + make_piece("<unk>", 0, 2)


SETTINGS = {
    "kind": (b"\x12\x02\x18\x02", "its kind is 'BPE'; allowed: 'unigram'"),
    "suffix": (b"\x12\x03\xc0\x01\x01", "treat_whitespace_as_suffix is True; allowed: False"),
    "blanks": (b"\x1a\x02\x28\x00", "escape_whitespaces is False; allowed: True"),
    "own": (make_piece("<sep>", 0, 4), "a piece of the user's own is '<sep>'; allowed: None"),
    "size": (make_piece("new"), "has 1001 tokens, but the model only 1000"),
}


@pytest.mark.parametrize(("added", "message"), SETTINGS.values(), ids=SETTINGS)
def test_a_model_that_asks_for_something_else_is_named(added: bytes, message: str, files: Path, tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes((files / "english/spiece.model").read_bytes() + added)
    with pytest.raises(BundleError, match=message):
        open_tokenizer(path, ENGLISH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a SentencePiece model that can be read"),
        (b"{}", "not a SentencePiece model that can be read"),
        (SPECIALS[:-1], "not a SentencePiece model that can be read: it ends too early"),
        (
            SPECIALS + make_piece("a") + b"\x1a\x0a\x12\x08\x04\0\0\0\0\x04\0\0",
            "its table of replacements leads out of it",
        ),
        (SPECIALS, "0 pieces, and 1 for what is unknown"),
        (make_piece("a"), "1 pieces, and 0 for what is unknown"),
        (make_piece("<unk>", 0, 2) + make_piece("a"), "no piece </s>"),
        (
            SPECIALS + make_piece("a") + make_piece("<0x00>", 0, 6),
            "not a SentencePiece model that can be read: '<0x01>'",
        ),
    ],
)
def test_a_model_that_cannot_be_run_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=message):
        open_tokenizer(path, ENGLISH)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"spiece\.model cannot be read"):
        open_tokenizer(tmp_path / "spiece.model", ENGLISH)


def test_gaps_behind_the_vocabulary_are_left_out(files: Path, tmp_path: Path, english: Tokenizer) -> None:
    """The multilingual vocabulary has a hundred of T5's, for which SigLIP has no rows."""
    path = tmp_path / "spiece.model"
    gaps = b"".join(make_piece(f"▁<extra_id_{number}>", 0, 4) for number in range(3))
    path.write_bytes((files / "english/spiece.model").read_bytes() + gaps)
    assert open_tokenizer(path, ENGLISH).encode(["a dog"]).tolist() == english.encode(["a dog"]).tolist()


def test_a_piece_that_is_not_used_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(SPECIALS + b"".join(map(make_piece, ("▁", "a", "b"))) + make_piece("ab", 5.0, 5))
    assert make_piece_encoder(read_sentencepiece(path))("ab") == [3, 4, 5]


@pytest.mark.parametrize(
    ("key", "replacement", "text", "expected"),
    [
        ("b", "a", "abb", [3, 4, 4, 4]),
        ("ab", "b", "aabb", [3, 4, 5, 5]),
        ("▁", " ", "▁▁a ▁b▁", [3, 4, 3, 5]),  # as in SentencePiece's own tables
        ("▁a", "b", "b▁a", [3, 5, 5]),
    ],
)
def test_a_rule_for_plain_text_is_followed(
    key: str, replacement: str, text: str, expected: list[int], tmp_path: Path
) -> None:
    """Most tables leave printable ASCII alone, and such texts do not go through them; others are asked."""
    rules = compile_rule(key.encode(), replacement.encode())
    normalizer = b"\x12" + write_size(len(rules)) + rules
    path = tmp_path / "spiece.model"
    pieces = SPECIALS + b"".join(map(make_piece, ("▁", "a", "b")))
    path.write_bytes(pieces + b"\x1a" + write_size(len(normalizer)) + normalizer)
    assert make_piece_encoder(read_sentencepiece(path))(text) == expected


def write_size(size: int) -> bytes:
    return bytes([size & 0x7F | 0x80, size >> 7])


def compile_rule(key: bytes, replacement: bytes) -> bytes:
    """A table of one replacement: the root, a unit for each byte, and its value, 256 units apart."""
    units = [0] * 256 * (len(key) + 2)
    units[0] = 256 << 10
    for number, value in enumerate(key, 1):
        place = 256 * number ^ value
        units[place] = (place ^ 256 * (number + 1)) << 10 | 0x100 * (number == len(key)) | value
    units[256 * (len(key) + 1)] = 1 << 31
    return struct.pack(f"<{len(units) + 1}I", 4 * len(units), *units) + replacement + b"\0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end_id": 2}, r"makes the ids \[1\] of an empty text; the card says \[2\]"),
        ({"start_id": 0}, r"makes the ids \[1\] of an empty text; the card says \[0, 1\]"),
        ({"cleaning": "lower"}, "cleaning is lower; allowed beside the tokenizer siglip: transformers"),
    ],
)
def test_a_card_that_contradicts_the_file_is_refused(change: dict[str, Any], message: str, files: Path) -> None:
    with pytest.raises(BundleError, match=message):
        open_tokenizer(files / "english/spiece.model", replace(ENGLISH, **change))


def test_blanks_before_a_text_are_one_more_token_and_take_no_quadratic_time(english: Tokenizer) -> None:
    """SiglipTokenizer puts U+2581 before a text; these rules do not make it a blank that others are folded with."""
    dog = english.encode_ragged(["dog"])[0].tolist()
    for blanks in (" ", " " * 200_000):
        assert english.encode_ragged([blanks + "dog"])[0].tolist() == [3, *dog]
