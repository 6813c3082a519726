"""A large BPE is cut from the table beside its tokenizer.json, id by id as the tokenizers library cuts it."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from siglip_checkpoints import MODELS, TOKENIZERS, write_huggingface
from siglip_references import make_hard_strings

from clipworks.bundle.card import Cleaning
from clipworks.bundle.files import read_bundle, verify_bundle
from clipworks.convert import convert_checkpoint
from clipworks.text import library_file
from clipworks.text.bpe import make_bpe_encoder
from clipworks.text.bpe_table import make_table, name_table, read_table, write_table
from clipworks.text.library_file import open_file, open_with_library, write_beside

GOLDEN = json.loads(gzip.decompress(TOKENIZERS.read_bytes()))
GEMMA = base64.b64decode(GOLDEN["files"]["gemma/tokenizer.json"])
HARD = (
    "",
    " ",
    "  a",
    "a  b ",
    "▁",
    "▁▁▁a",
    "a▁b",
    "<bos><eos>a<bo",
    "\ud83d",
    "\ud83d\ude00 x",
    "ΑΣ ΟΔΟΣ",
    "İ ı",
    "\0",
)


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    """A small tokenizer of Gemma's kind with its table."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(GEMMA)
    table = make_table(GEMMA)
    assert table is not None
    write_table(path, table)
    return path


@pytest.mark.parametrize("cleaning", ["none", "lower", "open_clip"])
def test_the_table_gives_the_library_s_ids(cleaning: Cleaning, gemma: Path) -> None:
    own, size, check = open_file(gemma, cleaning)
    encode, theirs, unread = open_with_library(gemma, cleaning)
    texts = [*HARD, *GOLDEN["texts"], *make_hard_strings(["a photo of a {}", "Two DOGS"], seed=8, count=1500)]
    apart = [text for text in texts if own(text) != encode(text)]
    assert (apart, size) == ([], theirs)
    assert all(check(encode(text)) == unread(encode(text)) for text in (*HARD, "<unk>"))
    assert read_table(gemma) is not None


def change(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["model"].update(values)


def cross_words(values: dict[str, Any]) -> None:
    """Let merges reach over the beginning of a word, and make one token in two ways."""
    model = values["model"]
    for token in ("a▁", "a▁b", "▁▁a", "▁b", "ab", "abab", "bab"):
        model["vocab"].setdefault(token, len(model["vocab"]))
    model["merges"] += [
        ["a", "▁"],
        ["a▁", "b"],
        ["a", "▁b"],
        ["▁", "b"],
        ["a", "b"],
        ["b", "ab"],
        ["ab", "ab"],
        ["a", "bab"],
    ]


def write_lower(values: dict[str, Any]) -> None:
    values["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, values["normalizer"]]}


def start_too(values: dict[str, Any]) -> None:
    processor = values["post_processor"]
    processor["single"].insert(0, {"SpecialToken": {"id": "<bos>", "type_id": 0}})
    processor["special_tokens"]["<bos>"] = {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}


@pytest.mark.parametrize("edit", [cross_words, write_lower, start_too])
def test_other_files_of_its_kind_are_covered_too(edit: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    values = json.loads(GEMMA)
    edit(values)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(values))
    table = make_table(path.read_bytes())
    assert table is not None
    assert table.facts.by_words == (edit is not cross_words)
    encode, _, _ = open_with_library(path, "none")
    own = make_bpe_encoder(table, lower=False)
    texts = [*HARD, "A a▁b ab abab bab a b a  b aab babab", "ab ab  ab bb", *GOLDEN["texts"][:300]]
    assert [text for text in texts if own(text) != encode(text)] == []


@pytest.mark.parametrize(
    "edit",
    [
        change(ignore_merges=True),
        change(dropout=0.1),
        change(byte_fallback=False),
        change(end_of_word_suffix="</w>"),
        lambda values: values["added_tokens"][4].update(normalized=True),
        lambda values: values["added_tokens"][4].update(lstrip=True),
        lambda values: values.update(normalizer={"type": "NFKC"}),
        lambda values: values.update(normalizer=None),
        lambda values: values.update(pre_tokenizer={"type": "Whitespace"}),
        lambda values: values.update(post_processor={"type": "ByteLevel"}),
        lambda values: values["model"]["vocab"].pop("<0x7F>"),
    ],
)
def test_a_file_that_asks_for_more_gets_no_table(edit: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(GEMMA)
    edit(values)
    assert make_table(json.dumps(values).encode()) is None


def test_a_table_of_another_file_or_a_damaged_one_is_not_used(gemma: Path) -> None:
    name = name_table(gemma)
    whole = name.read_bytes()
    gemma.write_bytes(GEMMA + b"\n")
    assert read_table(gemma) is None
    assert open_file(gemma, "lower")[0]("a dog") == open_with_library(gemma, "lower")[0]("a dog")
    gemma.write_bytes(GEMMA)
    for damaged in (b"", whole[:40], whole[:-4000], whole.replace(b"BPE table 1", b"BPE table 0"), b"{}\n"):
        name.write_bytes(damaged)
        assert read_table(gemma) is None
    name.write_bytes(whole)
    assert read_table(gemma) is not None


def test_a_large_vocabulary_is_converted_with_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card lists it, so that it is copied, pulled and verified; texts get the ids that they had."""
    source = write_huggingface(tmp_path / "source", MODELS["second"])
    plain = convert_checkpoint(source, tmp_path / "plain")
    assert not name_table(plain.tokenizer).exists()
    monkeypatch.setattr(library_file, "LEAST", 0)
    bundle = convert_checkpoint(source, tmp_path / "bundle")
    assert name_table(bundle.tokenizer).name in bundle.card.files
    verify_bundle(read_bundle(bundle.folder))
    ids = [open_file(each.tokenizer, "lower")[0]("Two small birds") for each in (plain, bundle)]
    assert ids[0] == ids[1]
    table = read_table(bundle.tokenizer)
    assert table is not None
    assert table.facts.behind == (1,)


def test_no_table_is_written_that_gives_other_ids(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_table(gemma).unlink()
    monkeypatch.setattr(library_file, "LEAST", 0)
    monkeypatch.setattr(library_file, "make_bpe_encoder", lambda *_, **__: lambda _: [1])
    write_beside(gemma)
    assert not name_table(gemma).exists()
