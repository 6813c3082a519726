"""Texts become the token ids that OpenAI's own tokenizer gives, or an error that names the text."""

from __future__ import annotations

import gzip
import html
import json
import random
import sys
from pathlib import Path
from typing import Any

import children
import ftfy
import numpy as np
import pytest

from clipworks.bundle.card import TextSpec
from clipworks.errors import BundleError, TextError, UsageError
from clipworks.text.clip_rules import clean_text
from clipworks.text.clip_vocabulary import write_clip_tokenizer
from clipworks.text.tokenizers import Tokenizer, open_tokenizer

GOLDEN = Path(__file__).parent / "golden" / "tokens.json.gz"
START, END = 49406, 49407
CLIP = TextSpec(tokenizer="clip", context=77, pad_id=0, vocabulary=49408)


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    write_clip_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def clip(clip_file: Path) -> Tokenizer:
    return open_tokenizer(clip_file, CLIP)


@pytest.fixture(scope="module")
def unbounded(clip_file: Path) -> Tokenizer:
    return open_tokenizer(clip_file, TextSpec(tokenizer="clip", context=100_000, pad_id=0, vocabulary=49408))


@pytest.fixture
def words_file(tmp_path: Path) -> Path:
    """A tokenizer.json of another family: whole words between [CLS] and [SEP], truncated and padded on its own."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "dog": 4, "cat": 5, "Dog": 6}
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 1, "pad_type_id": 0,
            "pad_token": "[UNK]",
        },
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }  # fmt: skip
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    return path


def words_rules(**changes: Any) -> TextSpec:
    return TextSpec(**{"tokenizer": "file", "context": 8, "pad_id": 0, "vocabulary": 7, **changes})


def test_ids_equal_the_reference_on_the_golden_strings(unbounded: Tokenizer) -> None:
    """Thousands of strings, of every kind that tools/tokenizer_strings.py knows, give OpenAI's ids."""
    cases = json.loads(gzip.decompress(GOLDEN.read_bytes()))["cases"]
    assert len(cases) > 3000
    different = []
    for text, expected in cases:
        if not expected:  # nothing to read: an error here, see below
            with pytest.raises(TextError):
                unbounded.encode([text])
        elif unbounded.encode([text]).tolist() != [[START, *expected, END]]:
            different.append(text)
    assert different == []


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a<|endoftext|>b", ["a", END, "b"]),
        ("!<|endoftext|>", ["!<|", "endoftext", "|>"]),
        ("<|ENDOFTEXT|>", [END]),
        ("it'ſ", ["it", "'ſ"]),
        ("a\u0345a", ["a", "a"]),
        ("Ⅷ12½", ["ⅷ", "1", "2", "½"]),
    ],
)
def test_odd_words_split_as_the_reference_splits_them(clip: Tokenizer, text: str, pieces: list[str | int]) -> None:
    """End tokens in the text, the long s, U+0345 and numbers split as OpenAI's pattern does (its quirks included)."""
    expected = [START]
    for piece in pieces:
        expected += [piece] if isinstance(piece, int) else clip.encode([piece])[0, 1:-1].tolist()
    assert clip.encode([text]).tolist() == [[*expected, END]]


def test_quick_cleaning_changes_what_the_full_cleaning_changes() -> None:
    """Plain text skips ftfy and html; on 5,000 strings around that border the result is the full cleaning's."""
    chance = random.Random(5)
    borders = [chr(code) for code in range(0x20, 0x7F)] + ["&", "&amp;", "\t", "\n", "\x1b[0m", "\x7f", "é", "Ã©"]
    for _ in range(5000):
        text = "".join(chance.choice(borders) for _ in range(chance.randint(0, 30)))
        full = " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
        assert clean_text(text) == full, repr(text)


def test_plain_text_does_not_import_ftfy(clip_file: Path) -> None:
    """A plain prompt costs neither ftfy nor the tokenizers library at start-up."""
    script = (
        "import sys; from pathlib import Path; from clipworks.text.tokenizers import open_tokenizer;"
        "from clipworks.bundle.card import TextSpec;"
        f"rules = TextSpec(tokenizer='clip', context=77, pad_id=0, vocabulary=49408);"
        f"open_tokenizer(Path({str(clip_file)!r}), rules).encode(['A photo of a dog.']);"
        "print(sorted({'ftfy', 'tokenizers'} & set(sys.modules)))"
    )
    assert children.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_batch_is_as_long_as_its_longest_text(clip: Tokenizer) -> None:
    """Rows are int32, padded with the card's id to the longest text."""
    batch = clip.encode(["a photo of a dog", "dog"])
    assert batch.dtype == np.int32
    assert batch.tolist() == [[START, 320, 1125, 539, 320, 1929, END], [START, 1929, END, 0, 0, 0, 0]]


def test_a_fixed_length_is_the_context(clip_file: Path) -> None:
    """Where the tower takes one length only, every batch has it, filled with the card's id."""
    rules = TextSpec(tokenizer="clip", context=12, pad_id=END, padding="fixed", vocabulary=49408)
    assert open_tokenizer(clip_file, rules).encode(["dog"]).tolist() == [[START, 1929, *[END] * 10]]


def test_no_text_gives_no_row(clip: Tokenizer) -> None:
    """An empty list gives a batch of the context's length, which every tower takes."""
    assert clip.encode([]).shape == (0, 77)


def test_ragged_rows_padded_together_are_the_batch(clip: Tokenizer) -> None:
    """Rows of any choice and order can be padded into a batch of their own."""
    texts = ["a photo of a dog", "dog", "two cats"]
    rows = clip.encode_ragged(texts)
    assert [len(row) for row in rows] == [7, 3, 4]
    assert clip.pad([rows[2], rows[1]]).tolist() == clip.encode([texts[2], texts[1]]).tolist()


def test_the_longest_text_that_fits_is_taken(clip: Tokenizer) -> None:
    """75 words and the start and end tokens fill the context of 77 exactly."""
    assert clip.encode(["dog " * 75]).shape == (1, 77)


def test_a_text_over_the_context_is_named(clip: Tokenizer) -> None:
    """The message has the index, the shortened text, its number of tokens and the limit."""
    expected = r"texts\[1\] 'dog dog .*\.\.\.' has 78 tokens; the model takes at most 77, start and end tokens counted"
    with pytest.raises(TextError, match=expected):
        clip.encode(["a", "dog " * 76])


def test_truncation_keeps_the_end_token(clip: Tokenizer) -> None:
    """A text cut to the context ends with the end token, as with OpenAI's truncate=True."""
    assert clip.encode(["dog " * 200], truncate=True).tolist() == [[START, *[1929] * 75, END]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"texts\[1\] is empty"),
        (" \t\u3000", r"texts\[1\] is empty"),
        ("\x01&#28;", r"texts\[1\] .* holds nothing to read"),
    ],
)
def test_an_empty_text_is_named(clip: Tokenizer, text: str, message: str) -> None:
    """A text without a single token is an error that names its index."""
    with pytest.raises(TextError, match=message):
        clip.encode(["dog", text])


def test_one_string_is_refused(clip: Tokenizer) -> None:
    """One string in the place of a list would be read letter by letter."""
    with pytest.raises(UsageError, match="texts must be a list of texts, not one string"):
        clip.encode("dog")


def test_something_else_than_a_string_is_refused(clip: Tokenizer) -> None:
    """The message names the index and the type."""
    with pytest.raises(UsageError, match=r"texts\[1\] is of type int; it must be a string"):
        clip.encode(["dog", 3])  # type: ignore[list-item]


def test_a_very_long_word_takes_no_quadratic_time(clip: Tokenizer, unbounded: Tokenizer) -> None:
    """100,000 letters without a blank are encoded; the reference would take minutes."""
    rows = unbounded.encode_ragged(["".join(random.Random(1).choices("abcdefgh", k=100_000))])
    assert 20_000 < len(rows[0]) < 100_000
    assert clip.encode(["a" * 100_000], truncate=True)[0, [0, -1]].tolist() == [START, END]


def test_the_tokenizer_file_is_the_same_every_time(clip_file: Path, tmp_path: Path) -> None:
    """Two writes give the same bytes, with 49,408 ids."""
    write_clip_tokenizer(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == clip_file.read_bytes()
    vocabulary = json.loads(clip_file.read_bytes())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(49408))


def test_the_tokenizers_library_reads_the_file(clip_file: Path, clip: Tokenizer) -> None:
    """Other programs get the same ids on everyday prompts."""
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer.from_file(str(clip_file))
    for text in ("a photo of a dog.", "It's 3 o'clock,  café!", "A low-resolution photo of the GREAT white shark"):
        assert library.encode(text).ids == clip.encode([text])[0].tolist()


def test_merges_written_as_pairs_are_read_too(clip_file: Path, clip: Tokenizer, tmp_path: Path) -> None:
    """Newer tokenizers files hold each merge as a list of two."""
    content = json.loads(clip_file.read_bytes())
    content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]
    (tmp_path / "pairs.json").write_text(json.dumps(content))
    text = ["an interesting photograph"]
    assert open_tokenizer(tmp_path / "pairs.json", CLIP).encode(text).tolist() == clip.encode(text).tolist()


def test_another_tokenizer_runs_as_its_file_says(words_file: Path) -> None:
    """Cleaning none: no lower case, and the file's own truncation and padding do not count."""
    tokenizer = open_tokenizer(words_file, words_rules())
    assert tokenizer.encode(["Dog cat dog", "cat"]).tolist() == [[2, 6, 5, 4, 3], [2, 5, 3, 0, 0]]


def test_another_tokenizer_truncates_before_its_end_token(words_file: Path) -> None:
    """[SEP] stays when a text is cut."""
    tokenizer = open_tokenizer(words_file, words_rules(context=4))
    assert tokenizer.encode(["dog cat dog"], truncate=True).tolist() == [[2, 4, 5, 3]]
    with pytest.raises(TextError, match="has 5 tokens; the model takes at most 4"):
        tokenizer.encode(["dog cat dog"])


def test_a_lone_surrogate_is_replaced(words_file: Path, clip: Tokenizer) -> None:
    """Half a character, as a broken file name may hold, is read as the replacement character."""
    tokenizer = open_tokenizer(words_file, words_rules())
    assert tokenizer.encode(["dog \ud800 cat"]).tolist() == [[2, 4, 1, 5, 3]]
    assert clip.encode(["dog \ud800"]).tolist() == clip.encode(["dog \ufffd"]).tolist()


@pytest.mark.parametrize("tokenizer", ["clip", "file"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), ("{", "is not a tokenizer.json"), ("[]", "is not a tokenizer.json")],
)
def test_a_broken_file_is_named(tmp_path: Path, tokenizer: Any, content: str | None, message: str) -> None:
    """A missing or damaged tokenizer.json is a BundleError."""
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BundleError, match=message):
        open_tokenizer(path, words_rules(tokenizer=tokenizer))


def test_a_vocabulary_of_another_kind_is_refused(words_file: Path, clip_file: Path, tmp_path: Path) -> None:
    """OpenAI's rules need a byte-level BPE with word ends."""
    with pytest.raises(BundleError, match=r"is not a tokenizer\.json with a BPE vocabulary"):
        open_tokenizer(words_file, CLIP)
    content = json.loads(clip_file.read_bytes())
    content["model"]["end_of_word_suffix"] = "@@"
    (tmp_path / "suffix.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="has the word end '@@'"):
        open_tokenizer(tmp_path / "suffix.json", CLIP)


def test_more_tokens_than_the_model_has_are_refused(words_file: Path) -> None:
    """A tokenizer from another model would give ids past the embedding's end."""
    with pytest.raises(BundleError, match="has 7 tokens, but the model only 6"):
        open_tokenizer(words_file, words_rules(vocabulary=6))
