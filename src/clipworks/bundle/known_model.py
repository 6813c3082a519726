"""What is known of a model before its files are here; a card cannot say it, since a card states every fact."""

from __future__ import annotations

from dataclasses import dataclass

from clipworks.bundle.card import CARD_FORMAT, Card, ImageSpec, ScoreRule, TextSpec, TowerSpec
from clipworks.bundle.provenance import NO_ANSWERS, KnownAnswers, Published, Source


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """What is known of a model before its files are here: the facts of its card that are published, and where it is.

    Its checkpoint says the rest, and must not contradict it. Attributes that a card has too mean what they mean there.

    Attributes:
        aliases: other names that mean this model; its hub ids mean it too.
        image_size: side in pixels of the square that the image tower takes.
        image: the preprocessing, where published; it goes before what the checkpoint's files say. Its ``drop_alpha`` is
            that of the library that the weights were published with and measured by: OpenAI's clip, and open_clip or a
            fork of it (LAION, DataComp, MetaCLIP), all of which drop alpha after the crop, also where the checkpoint
            is one for transformers, which drops it before the resize.
        score: where published.
        sources: where the files are, the best first; all hold the same weights.
    """

    format: int = CARD_FORMAT
    name: str
    family: str
    aliases: tuple[str, ...] = ()
    title: str
    notes: tuple[str, ...] = ()
    licence: str
    forbids: tuple[str, ...] = ()
    dim: int
    image_size: int
    image: ImageSpec | None = None
    text: TextSpec
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
            forbids=self.forbids,
            dim=self.dim,
            image=self.image,
            text=self.text,
            image_tower=self.image_tower,
            text_tower=self.text_tower,
            score=self.score,
            published=self.published,
            answers=self.answers,
        )
