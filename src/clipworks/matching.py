"""Matching: one image against several texts, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipworks import scoring

if TYPE_CHECKING:
    from clipworks.bundle.card import Card


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well one text fits.

    Attributes:
        index: the text's place in what was given, from 0; it is the text's identity.
        text: the text itself.
        score: 0 to 1, by the rule that the match names.
        cosine: of the two unit embeddings.
    """

    index: int
    text: str
    score: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Match:
    """The ranked texts of one picture, and what computed them.

    Attributes:
        image: the picture's path as given, or None for one that has no path.
        model: the card's name.
        runtime: as granted.
        device: as granted.
        precision: as granted.
        why: what ``auto`` went by where the runtime or the precision was left to it; else None.
        score_kind: ``softmax`` over the given texts, or ``sigmoid``, each text by itself.
        scores: best first.
    """

    image: str | None
    model: str
    runtime: str
    device: str
    precision: str
    why: str | None = None
    score_kind: str = "softmax"
    scores: tuple[Score, ...]


def match_embeddings(
    cosines: scoring.Floats,
    texts: Sequence[str],
    *,
    image: str | None,
    card: Card,
    runtime: str,
    device: str,
    precision: str,
    why: str | None = None,
    top: int | None = None,
) -> Match:
    """Rank texts by their cosines with one image.

    Args:
        cosines: float32 ``[texts]``.
        texts: in the order of ``cosines``.
        image: the picture's path, or None.
        card: the model's.
        runtime: as granted.
        device: as granted.
        precision: as granted.
        why: what ``auto`` went by, or None.
        top: keep the best only; None for all.

    Returns:
        The record, best text first.
    """
    values = scoring.score(cosines, card.score)
    scores = tuple(
        Score(index=int(index), text=texts[index], score=float(values[index]), cosine=float(cosines[index]))
        for index in scoring.rank(cosines, top)
    )
    return Match(
        image=image,
        model=card.name,
        runtime=runtime,
        device=device,
        precision=precision,
        why=why,
        score_kind=card.score.kind,
        scores=scores,
    )
