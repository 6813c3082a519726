"""Which tokenizer a SigLIP checkpoint has: SigLIP's SentencePiece or SigLIP 2's Gemma, by what its folder says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipworks.bundle.card import Cleaning
from clipworks.errors import ConversionError
from clipworks.families.checkpoint import CheckpointFiles
from clipworks.families.weight_files import read_json

SETTINGS = "tokenizer_config.json"


@dataclass(frozen=True, kw_only=True)
class TokenizerRules:
    """How one generation's tokenizer is run by one layout's code.

    Attributes:
        classes: what ``tokenizer_class`` may say.
        kind: as in a card.
        name: of the file.
        pad_token: what ``pad_token`` must say, where it says anything.
        pad_id: the id of that token.
        end_id: the token that every text ends with.
    """

    classes: tuple[str, ...]
    kind: Literal["siglip", "file"]
    name: str
    cleaning: Cleaning
    pad_token: str
    pad_id: int
    end_id: int = 1


@dataclass(frozen=True, kw_only=True)
class FoundTokenizer:
    """A checkpoint's tokenizer: its file, how it is run, and all files that were read."""

    path: Path
    rules: TokenizerRules
    files: tuple[Path, ...]


_T5 = ("T5Tokenizer", "T5TokenizerFast")
_GEMMA = ("GemmaTokenizer", "GemmaTokenizerFast")
# SigLIP 2 was trained on texts in lower case. Its folders name GemmaTokenizer, which keeps case: `Siglip2Tokenizer`,
# which transformers' own processor takes for them, does not.
_RULES: dict[str, tuple[TokenizerRules, ...]] = {
    "huggingface": (
        TokenizerRules(
            classes=("SiglipTokenizer",),
            kind="siglip",
            name="spiece.model",
            cleaning="transformers",
            pad_token="</s>",
            pad_id=1,
        ),
        TokenizerRules(
            classes=("Siglip2Tokenizer", *_GEMMA),
            kind="file",
            name="tokenizer.json",
            cleaning="lower",
            pad_token="<pad>",
            pad_id=0,
        ),
    ),
    "open_clip": (
        TokenizerRules(
            classes=_T5, kind="file", name="tokenizer.json", cleaning="open_clip", pad_token="</s>", pad_id=1
        ),
        TokenizerRules(
            classes=("Siglip2Tokenizer", *_GEMMA),
            kind="file",
            name="tokenizer.json",
            cleaning="open_clip",
            pad_token="<pad>",
            pad_id=0,
        ),
    ),
}


def find_tokenizer(files: CheckpointFiles) -> FoundTokenizer:
    """Find the tokenizer beside a checkpoint's configuration.

    Raises:
        ConversionError: nothing says which it is, it is not known, its file is missing, or its settings are others
            than the family's.
    """
    folder = files.files[-1].parent  # the configuration's
    settings = folder / SETTINGS
    if not settings.is_file():
        raise ConversionError(
            f"{settings} is missing: nothing says which tokenizer this model has",
            hint="put the tokenizer's files of the model there",
        )
    values, rows = read_json(settings), _RULES[files.layout]
    named = values.get("tokenizer_class")
    rules = next((row for row in rows if named in row.classes), None)
    if rules is None:
        allowed = ", ".join(name for row in rows for name in row.classes)
        raise ConversionError(f"{settings}: tokenizer_class is {named!r}; allowed: {allowed}")
    pad = values.get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    asked: tuple[tuple[str, object, tuple[object, ...]], ...] = (
        ("pad_token", pad, (None, rules.pad_token)),
        ("add_bos_token", values.get("add_bos_token"), (None, False)),
        ("add_eos_token", values.get("add_eos_token"), (None, True)),
    )
    for name, said, allowed_values in asked:
        if said not in allowed_values:
            raise ConversionError(f"{settings}: {name} is {said!r}; allowed: {allowed_values[1]!r}")
    path = folder / rules.name
    if not path.is_file():
        raise ConversionError(f"{path} is missing: {named} needs it")
    return FoundTokenizer(path=path, rules=rules, files=(path, settings))
