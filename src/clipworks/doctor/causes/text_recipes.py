"""Recipes for vectors of texts: how texts may have become token ids, and ids vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from clipworks.bundle.card import Cleaning, TextSpec, TowerSpec
from clipworks.doctor.causes.layers import ACTIVATIONS
from clipworks.doctor.causes.recipes import Change, Recipes
from clipworks.doctor.causes.tower_runs import TowerRuns
from clipworks.doctor.joint import Rows
from clipworks.doctor.stages import sees_padding
from clipworks.options import PRECISIONS
from clipworks.text.cleaning import CLEANINGS
from clipworks.text.sentencepiece import make_piece_encoder
from clipworks.text.sentencepiece_file import read_sentencepiece
from clipworks.text.tokenizers import Ids, open_tokenizer

_TEMPLATES = ("a photo of a {}.", "a photo of a {}", "a photo of {}", "This is a photo of {}.")
_WHOLE = 1_000_000  # a context that cuts nothing
_CLEANINGS: tuple[Cleaning, ...] = get_args(Cleaning)
_WAYS: dict[str, tuple[Cleaning, ...]] = {"clip": (), "wordpiece": ("none", "lower")}
"""The cleanings of rules that do not take all of them."""


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """A way from a text to its vector.

    Attributes:
        template: what the text is put into.
        cleaning: as in a card.
        padded: whether texts are filled up to the context, where the tower sees it.
        pad_id: what fills them.
        start_id: a token before each text that the card has not, or None.
        ended: whether texts have their end token.
        cut_end: whether a text that is too long loses its end token.
        tower: the architecture that computes it.
        precision: of the tower.
    """

    template: str = "{}"
    cleaning: Cleaning
    padded: bool = True
    pad_id: int
    start_id: int | None = None
    ended: bool = True
    cut_end: bool = False
    tower: TowerSpec
    precision: str = "f32"


def open_text_recipes(runs: TowerRuns) -> Recipes[TextRecipe]:
    """The recipes of a model's texts."""
    text = runs.bundle.card.text
    encoding = TextEncoding(runs.bundle.tokenizer, text, runs.spec)

    def make(recipe: TextRecipe, texts: Sequence[str]) -> Rows | None:
        return runs.embed([encoding.encode(one, recipe) for one in texts], recipe.tower, recipe.precision)

    return Recipes(
        start=TextRecipe(cleaning=text.cleaning, pad_id=text.pad_id, tower=runs.spec, precision=runs.precision),
        list_changes=lambda recipe: list_text_changes(recipe, text, runs.spec),
        make=make,
    )


class TextEncoding:
    """Token ids by recipe; each way to clean opens the tokenizer once."""

    def __init__(self, path: Path, text: TextSpec, tower: TowerSpec) -> None:
        """Open nothing yet: ``path`` is the tokenizer's file, ``text`` and ``tower`` what the card says."""
        self._path, self._text = path, text
        self._whole = sees_padding(text, tower)
        self._open: dict[Cleaning, Callable[[str], Ids]] = {}

    def encode(self, text: str, recipe: TextRecipe) -> Ids:
        """The ids of a text, int32 ``[length]``, as the tower is to see them."""
        spec = self._text
        row = self._encode(recipe.template.format(text), recipe.cleaning)
        if not recipe.ended and spec.end_id is not None and row[-1] == spec.end_id:
            row = row[:-1]
        if recipe.start_id is not None:
            row = np.concatenate([np.array([recipe.start_id], np.int32), row])
        if len(row) > spec.context:
            row = row[: spec.context] if recipe.cut_end else np.append(row[: spec.context - 1], row[-1])
        if self._whole and recipe.padded:
            row = np.pad(row, (0, spec.context - len(row)), constant_values=recipe.pad_id)
        return row.astype(np.int32)

    def _encode(self, text: str, cleaning: Cleaning) -> Ids:
        if cleaning not in self._open:
            self._open[cleaning] = self._find(cleaning)
        return self._open[cleaning](text)

    def _find(self, cleaning: Cleaning) -> Callable[[str], Ids]:
        if self._text.tokenizer == "siglip" and cleaning != self._text.cleaning:
            cut = make_piece_encoder(read_sentencepiece(self._path))
            clean = {**CLEANINGS, "lower": str.lower}.get(cleaning, str)
            return lambda text: np.array([*cut(clean(text)), self._text.end_id], np.int32)
        tokenizer = open_tokenizer(self._path, replace(self._text, cleaning=cleaning, context=_WHOLE))
        return lambda text: tokenizer.encode_ragged([text])[0]


def list_text_changes(recipe: TextRecipe, text: TextSpec, tower: TowerSpec) -> Iterator[Change[TextRecipe]]:
    """What others do otherwise than a model's card says: by the text, its ids, the tower."""
    for name in _TEMPLATES:
        yield Change("template", f"put into {name!r}", replace(recipe, template=name))
    for way in _WAYS.get(text.tokenizer, _CLEANINGS):
        if way != text.cleaning:
            said = _say_cleaning(way, text.cleaning)
            yield Change("cleaning", said, replace(recipe, cleaning=way))
    if sees_padding(text, tower):
        said = f"not filled up to the context of {text.context}"
        yield Change("padding", said, replace(recipe, padded=False))
        for pad in dict.fromkeys((0, 1, 2, 3, text.end_id or 0)):
            if pad != text.pad_id:
                said = f"filled up with {pad}, not with {text.pad_id}"
                yield Change("padding", said, replace(recipe, pad_id=pad))
    if text.end_id is not None:
        said = f"without the end token, {text.end_id}"
        yield Change("end", said, replace(recipe, ended=False))
    if text.start_id is None:
        for start in range(min(4, text.vocabulary)):
            said = f"with a start token, {start}"
            yield Change("start", said, replace(recipe, start_id=start))
    yield Change("cut", "long ones cut without their end token", replace(recipe, cut_end=True))
    for said, other in _list_towers(text, tower):
        yield Change("tower", said, replace(recipe, tower=other))
    for kind in PRECISIONS:
        yield Change("precision", f"encoded in {kind}", replace(recipe, precision=kind))


def _list_towers(text: TextSpec, tower: TowerSpec) -> Iterator[tuple[str, TowerSpec]]:
    for name, activation in ACTIVATIONS.items():
        if activation != tower.activation:
            yield f"encoded with {name}", replace(tower, activation=activation)
    causal = tower.mask == "causal"
    said = f"encoded with {'no' if causal else 'a'} causal mask"
    yield said, replace(tower, mask="none" if causal else "causal")
    if tower.pooling != "last":
        yield "pooled at the last token", replace(tower, pooling="last")
    elif text.end_id is not None:
        yield "pooled at the end token, not at the last place", replace(tower, pooling="eos")


def _say_cleaning(way: Cleaning, own: Cleaning) -> str:
    if way == "none":
        return "not written in lower case" if own == "lower" else f"not cleaned (the card says: {own})"
    if way == "lower":
        return f"written in lower case alone, punctuation kept (the card says: {own})"
    return f"cleaned as {way} does it (the card says: {own})"
