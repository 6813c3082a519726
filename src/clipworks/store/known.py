"""The known models: what is published about them, and where their files come from; one JSON a model."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.card import CARD_FORMAT, Card, ImageInput, ScoreRule, TowerSpec
from clipworks.bundle.provenance import NO_ANSWERS, KnownAnswers, Published, Source
from clipworks.bundle.records import read_record
from clipworks.families import clip

KNOWN_FOLDER = Path(__file__).parent / "known_models"


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """What is known of a model before its files are here; the rest its checkpoint says itself.

    Attributes:
        format: version of this record.
        name: short name, as ``--model`` takes it.
        aliases: other names that mean this model; its hub ids mean it too.
        title: one line for people.
        notes: what a user must know; one paragraph a string.
        licence: SPDX expression, or the publisher's own words.
        dim: width of the shared embedding.
        image_size: side in pixels of the square that the image tower takes.
        context: the most tokens that the text tower takes.
        image: the preprocessing, where published; it goes before what the checkpoint's files say. Its ``drop_alpha`` is
            that of the library that the weights were published with and measured by: OpenAI's clip, and open_clip or a
            fork of it (LAION, DataComp, MetaCLIP), all of which drop alpha after the crop, also where the checkpoint
            is one for transformers, which drops it before the resize.
        image_tower: its architecture; a checkpoint that says another is refused.
        text_tower: its architecture; likewise.
        score: how cosines become scores, where published.
        sources: where the files are, the best first; all hold the same weights.
        published: figures of others, never ours.
        answers: what others published that the weights give.
    """

    format: int = CARD_FORMAT
    name: str
    family: str = clip.NAME
    aliases: tuple[str, ...] = ()
    title: str
    notes: tuple[str, ...] = ()
    licence: str
    dim: int
    image_size: int
    context: int
    image: ImageInput | None = None
    image_tower: TowerSpec
    text_tower: TowerSpec
    score: ScoreRule | None = None
    sources: tuple[Source, ...]
    published: tuple[Published, ...] = ()
    answers: KnownAnswers = NO_ANSWERS

    @property
    def parameters(self) -> int:
        """Of both towers and the logit scale."""
        return (self.image_tower.parameters or 0) + (self.text_tower.parameters or 0) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that means this model: its own, the aliases, the hub ids."""
        return (self.name, *self.aliases, *(source.hub for source in self.sources if source.hub))

    def describe(self) -> Card | None:
        """Write the card that ready-made towers need; None where not every fact of it is published."""
        if self.score is None or self.image is None:
            return None
        return Card(
            name=self.name,
            family=self.family,
            title=self.title,
            notes=self.notes,
            licence=self.licence,
            dim=self.dim,
            image=self.image,
            text=clip.describe_text(self.context),
            image_tower=self.image_tower,
            text_tower=self.text_tower,
            score=self.score,
            published=self.published,
            answers=self.answers,
        )


@functools.cache
def known_models() -> dict[str, KnownModel]:
    """Read all known models; the keys are their names, sorted."""
    models = [
        read_record(KnownModel, json.loads(path.read_text(encoding="utf-8")), path.name)
        for path in KNOWN_FOLDER.glob("*.json")
    ]
    return {model.name: model for model in sorted(models, key=lambda model: model.name)}


def find_known(name: str) -> KnownModel | None:
    """Find a known model by any of its names, capital letters or not."""
    wanted = name.lower()
    return next(
        (model for model in known_models().values() if wanted in (other.lower() for other in model.names)), None
    )
