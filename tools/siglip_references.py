"""SigLIP's tokenizers as their references run them, over small vocabularies trained here.

The published vocabularies are not in any package, so their rules are compared over others of the same kinds: unigram
without and with bytes for what is unknown (SigLIP's English and its multilingual one), and Gemma's BPE (SigLIP 2).
Needs sentencepiece, transformers, protobuf and the open_clip wheel, whose ``tokenizer.py`` is run without the rest.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import random
import shutil
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizer_strings import make_strings

from clipworks.bundle.card import TextSpec

CONTEXT = 64
PACKAGES = ("sentencepiece", "transformers", "tokenizers", "open_clip_torch", "ftfy")
_TRAINED_ON = ("prompts", "scripts", "emoji", "blanks", "case", "specials", "mojibake")
_PARTS = (
    "</s>", "<unk>", "<pad>", "<eos>", "<EOS>", "<bos>", "<mask>", "</s", "&lt;/s&gt;", "<extra_id_0>", "▁", "▁▁",
    "_", "a_b", " ", "  ", "\t", "\n", "\n\n", "\u3000", "\xa0", "\u200b", "\ufeff", "\ufffd", "\0", "\x7f", "¨", "´",
    "＜／ｓ＞", "ＨＥＬＬＯ", "！", "。", "日本", "ﬁ", "①", "㈱", "ｶﾞ", "e\u0301", "\u1100\u1161", "İ", "ΟΔΟΣ", "ΑΣ-Β",
    "ΑΣ'Β", "!!", "1,000", "{}", "it's", "hello", "WORLD", "a photo of a dog", "😀", "👩‍👩‍👧‍👦", "", "lllllllllllll",
    "ababababab",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One tokenizer, twice: the file and the rules that clipworks takes, and a reference.

    Attributes:
        name: of the reference.
        file: what clipworks opens.
        rules: what a card says of texts.
        encode: the reference's ids of a text, cut and padded to the context.
    """

    name: str
    file: Path
    rules: TextSpec
    encode: Callable[[str], list[int]]


def make_pairs(folder: Path, wheel: Path, prompts: Sequence[str], *, size: int, rules: Path | None) -> list[Pair]:
    """Train vocabularies and open them with SigLIP's references.

    Args:
        folder: where the files are written.
        wheel: ``open_clip_torch-3.3.0-py3-none-any.whl``.
        prompts: what `tokenizer_strings.read_prompts` gave.
        size: pieces of each vocabulary.
        rules: a table of replacements instead of SentencePiece's own ``nmt_nfkc``, which has 240 KB.
    """
    from transformers import SiglipTokenizer  # type: ignore[attr-defined,unused-ignore]

    lines = [text for kind, text in make_strings(list(prompts), seed=5, count=30_000) if kind in _TRAINED_ON]
    lines = [text for text in lines if text.strip() and "\0" not in text]
    replaced = {"normalization_rule_name": "nmt_nfkc"} if rules is None else {"normalization_rule_tsv": str(rules)}
    ends = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "character_coverage": 0.98, **replaced}
    open_clip = _load_open_clip(wheel, folder)
    pairs = []
    for name, byte_fallback in (("english", False), ("multilingual", True)):
        file = folder / name / "spiece.model"
        _train(file, lines, vocab_size=size, byte_fallback=byte_fallback, **ends)
        text = TextSpec(
            tokenizer="siglip", file="spiece.model", cleaning="transformers", context=CONTEXT, padding="fixed",
            pad_id=1, end_id=1, vocabulary=size,
        )  # fmt: skip
        pairs.append(_pair(f"transformers {name}", file, text, SiglipTokenizer(vocab_file=str(file))))
    t5 = _make_t5(folder / "english", folder / "t5")
    gemma = _make_gemma(folder / "gemma", lines, size)
    for name, file, pad_id in (("english", t5, 1), ("gemma", gemma, 0)):
        text = TextSpec(
            tokenizer="file", cleaning="open_clip", context=CONTEXT, padding="fixed", pad_id=pad_id, end_id=1,
            vocabulary=size,
        )  # fmt: skip
        reference = open_clip.HFTokenizer(str(file.parent), context_length=CONTEXT, clean="canonicalize")
        pairs.append(Pair(name=f"open_clip {name}", file=file, rules=text, encode=_first_row(reference)))
    return [*pairs, open_gemma("transformers gemma", gemma, size)]


def open_gemma(name: str, file: Path, size: int) -> Pair:
    """Open a tokenizer.json of Gemma's kind as SigLIP 2 does; its folder needs no other file.

    Args:
        name: of the pair.
        file: the file.
        size: how many ids it has.
    """
    from transformers import Siglip2Tokenizer  # type: ignore[attr-defined,unused-ignore]

    rules = TextSpec(
        tokenizer="file", cleaning="lower", context=CONTEXT, padding="fixed", pad_id=0, end_id=1, vocabulary=size
    )
    options = {"padding_side": "right", "add_bos_token": False, "add_eos_token": True}
    return _pair(name, file, rules, Siglip2Tokenizer.from_pretrained(str(file.parent), **options))


def make_hard_strings(prompts: Sequence[str], *, seed: int, count: int) -> Iterator[str]:
    """Make strings: half as for OpenAI's tokenizer, half of what SigLIP's rules stumble over; none is empty."""
    chance = random.Random(seed)
    yield from ("a b " * 400, "的" * 300, "一 只 " * 200, " " * 2000 + "x", "x" + "\u200b " * 300, "Σ" * 200)
    for _, text in make_strings(list(prompts), seed=seed, count=count // 2):
        # A lone surrogate is an error to the references; clipworks reads U+FFFD.
        yield text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for _ in range(count - count // 2):
        yield "".join(chance.choice(_PARTS) for _ in range(chance.randint(1, 8)))


def write_small_rules(path: Path) -> None:
    """Write a table of a few hundred replacements, of every kind that ``nmt_nfkc`` has: one to many, many to one."""
    single = [*range(0xA0, 0x180), *range(0x2000, 0x2040), *range(0x2460, 0x2474), 0x3000, *range(0x3200, 0x3240),
              *range(0xFB00, 0xFB07), *range(0xFF01, 0xFFA0), 0xFDFA]  # fmt: skip
    texts = [chr(code) for code in single]
    texts += [base + mark for base in "aeiouAEIOUnc" for mark in "\u0300\u0301\u0303\u0308\u0327"]
    texts += [chr(code) + "ﾞ" for code in range(0xFF76, 0xFF85)]
    table = {text: unicodedata.normalize("NFKC", text) for text in texts}
    table |= dict.fromkeys("\t\n\r\u200b\u2028\u2060\ufeff\ufffd", " ") | dict.fromkeys("\x01\x7f\x8f\u200e", "")
    rows = [
        "\t".join(" ".join(f"{ord(character):X}" for character in part) for part in pair)
        for pair in sorted(table.items())
        if pair[0] != pair[1]
    ]
    path.write_text("\n".join(rows) + "\n")


def list_versions() -> dict[str, str]:
    """The versions of the references."""
    return {name: importlib.metadata.version(name) for name in PACKAGES if name != "open_clip_torch"}


def _train(file: Path, lines: Sequence[str], **options: Any) -> None:
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, minloglevel=2, num_threads=1, **options
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    model.normalizer_spec.ClearField("normalization_rule_tsv")  # a path of this machine
    file.parent.mkdir(parents=True)
    file.write_bytes(model.SerializeToString())


def _make_t5(source: Path, folder: Path) -> Path:
    """Write the tokenizer.json that open_clip's checkpoints of SigLIP have, where no spiece.model lies beside it."""
    from transformers import T5Tokenizer  # type: ignore[attr-defined,unused-ignore]

    tokenizer = T5Tokenizer.from_pretrained(str(source), extra_ids=0, pad_token="</s>")
    tokenizer.save_pretrained(str(folder))
    (folder / "spiece.model").unlink(missing_ok=True)
    return folder / "tokenizer.json"


def _make_gemma(folder: Path, lines: Sequence[str], size: int) -> Path:
    """Write the tokenizer.json of a BPE as Gemma's: bytes for what is unknown, blanks kept, tokens of white space."""
    from transformers import Siglip2Tokenizer  # type: ignore[attr-defined,unused-ignore]
    from transformers.tokenization_utils_sentencepiece import SentencePieceExtractor

    file = folder / "source" / "tokenizer.model"
    _train(
        file, lines, vocab_size=size, model_type="bpe", byte_fallback=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        eos_piece="<eos>", bos_piece="<bos>",
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
        split_digits=True, character_coverage=0.98, user_defined_symbols=["<mask>", "\n", "\n\n", "▁▁", "<table>"],
    )  # fmt: skip
    vocabulary, _, merges = SentencePieceExtractor(str(file)).extract()
    tokenizer = Siglip2Tokenizer(
        vocab=vocabulary, merges=merges, padding_side="right", add_bos_token=False, add_eos_token=True
    )
    tokenizer.save_pretrained(str(folder))
    shutil.rmtree(file.parent)
    written = json.loads((folder / "tokenizer.json").read_text())
    # The published file is Gemma's own, without lower case: the class, or the card, adds it.
    written["normalizer"] = written["normalizer"]["normalizers"][-1]
    (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "GemmaTokenizer"}))
    return folder / "tokenizer.json"


def _load_open_clip(wheel: Path, folder: Path) -> Any:
    with zipfile.ZipFile(wheel) as archive:
        for member in ("open_clip/tokenizer.py", "open_clip/bpe_simple_vocab_16e6.txt.gz"):  # it opens it on import
            archive.extract(member, folder)
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", folder / "open_clip" / "tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pair(name: str, file: Path, rules: TextSpec, reference: Any) -> Pair:
    def encode(text: str) -> list[int]:
        ids: list[int] = reference(text, padding="max_length", max_length=CONTEXT, truncation=True).input_ids
        return ids

    return Pair(name=name, file=file, rules=rules, encode=encode)


def _first_row(reference: Any) -> Callable[[str], list[int]]:
    def encode(text: str) -> list[int]:
        ids: list[int] = reference([text])[0].tolist()
        return ids

    return encode
