"""Scores: unit embeddings in, cosines, scores and the best k out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from clipworks.errors import EncodingError

if TYPE_CHECKING:
    from clipworks.bundle.card import ScoreRule
    from clipworks.runtimes.protocol import Batch, Encoder, Staged

Floats = npt.NDArray[np.float32]
# Rows of a table in a notebook.
_DRAWN = 100


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well one text fits."""

    index: int  # the text's place in what was given, from 0; it is the text's identity
    text: str
    score: float  # 0 to 1, by the rule that the match names
    cosine: float  # of the two unit embeddings


@dataclass(frozen=True, kw_only=True)
class Match(Sequence[Score]):
    """The ranked texts of one image, best first, and what computed them; it iterates and indexes its scores."""

    image: str | None  # the image's path as given, or None for one that has no path
    model: str  # the card's name
    runtime: str  # in use, as device and precision
    device: str
    precision: str
    why: str | None = None  # what ``auto`` went by where the runtime or the precision was left to it
    instruction_set: str | None = None  # that the runtime's kernels are of; None where it does not say
    score_kind: str = "softmax"  # over the given texts, or ``sigmoid``, each text by itself
    scores: tuple[Score, ...] = ()  # best first; empty for an error
    error: str | None = None  # why an image of a data set has no scores, or None

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Score: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Score, ...]: ...

    def __getitem__(self, index: int | slice) -> Score | tuple[Score, ...]:
        return self.scores[index]

    def _repr_html_(self) -> str:
        return _draw_html(("text", "score", "cosine"), [(one.text, one) for one in self.scores])


@dataclass(frozen=True, kw_only=True)
class Matches(Sequence[Match]):
    """The ranked texts of several images, in their order; it iterates and indexes the `Match` of each."""

    matches: tuple[Match, ...]

    def __len__(self) -> int:
        return len(self.matches)

    @overload
    def __getitem__(self, index: int) -> Match: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Match, ...]: ...

    def __getitem__(self, index: int | slice) -> Match | tuple[Match, ...]:
        return self.matches[index]

    def _repr_html_(self) -> str:
        names = (f"image {place}" if one.image is None else one.image for place, one in enumerate(self.matches))
        rows = [(name, one.scores[0]) for name, one in zip(names, self.matches, strict=True) if one.scores]
        return _draw_html(("image", "text", "score", "cosine"), rows)


def _draw_html(headings: Sequence[str], rows: Sequence[tuple[str, Score]]) -> str:
    """A table for a notebook: a row a score, with the text too where the row is named by something else."""
    from html import escape  # here, since only a notebook needs it

    lines = [
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in (name, one.text)[: len(headings) - 2])}"
        f"<td>{one.score:.2%}</td><td>{one.cosine:.4f}</td></tr>"
        for name, one in rows[:_DRAWN]
    ]
    more = f"<p>and {len(rows) - _DRAWN:,} more</p>" if len(rows) > _DRAWN else ""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedTexts:
    """Texts to compare images with; equal ones share a row, so that they tie to the last bit."""

    texts: Sequence[str]
    rows: Floats  # float32 unit rows ``[different texts, dim]``
    places: Sequence[int]  # for each text the place of its row
    rule: ScoreRule  # from the model's card
    made_by: Match  # what computes the scores: a match without an image

    def rank(
        self, row: Floats | None, *, image: str | None = None, top: int | None = None, error: str | None = None
    ) -> Match:
        """Rank the texts for an image: its float32 unit row ``[dim]``, or None and the error why there is none."""
        scores: tuple[Score, ...] = ()
        if row is not None:
            scores = score_texts(compare(row[None], self.rows)[0][self.places], self.texts, self.rule, top)
        return dataclasses.replace(self.made_by, image=image, scores=scores, error=error)


def normalise(embeddings: npt.NDArray[np.floating], *, made_by: str = "") -> Floats:
    """Scale each row of ``[n, dim]`` to unit length, in float32; a row of zeros stays zeros.

    Raises:
        EncodingError: a value is NaN or Inf, as when a half precision of what ``made_by`` names overflows.
    """
    rows = embeddings.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all():
        broken = int((~np.isfinite(lengths)).sum())
        raise EncodingError(
            f"{broken} of {len(rows)} embeddings hold NaN or Inf{made_by and ' from '}{made_by}",
            hint="a precision that overflowed, or damaged weights? --precision f32 tells",
        )
    rows /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return rows.astype(np.float32)


def embed_batch(encoder: Encoder, batch: Batch | Staged) -> Floats:
    """Encode one batch to float32 unit rows ``[n, dim]``; raises EncodingError as `normalise` and the encoder do."""
    return normalise(encoder(batch), made_by=f"{encoder.runtime} in {encoder.precision}")


def compare(images: Floats, texts: Floats) -> Floats:
    """Cosine of every image with every text: of unit rows ``[images, dim]``, ``[texts, dim]`` ``[images, texts]``."""
    cosines: Floats = images @ texts.T
    return cosines


@contextlib.contextmanager
def compare_on_one_thread() -> Iterator[None]:
    """Let numpy's matrix products use one thread for a while, where other threads keep the cores busy.

    A product of milliseconds that is split over cores waits, spinning, until each of them comes free: beside decoding
    and encoding that took a sixth of a run's time.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def score(cosines: Floats, rule: ScoreRule) -> npt.NDArray[np.float64]:
    """Scores by the rule of a model's card: `softmax` over the last axis, or the sigmoid of each text by itself.

    ``cosines`` and scores are ``[..., texts]``, the scores float64, each 0 to 1.
    """
    if rule.kind == "softmax":
        return softmax(cosines, rule.logit_scale)
    logits = cosines.astype(np.float64) * rule.logit_scale + rule.logit_bias
    # Of the two equal forms the one whose exponential cannot overflow.
    small = np.exp(-np.abs(logits))
    scores: npt.NDArray[np.float64] = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return scores


def softmax(cosines: npt.NDArray[np.floating], logit_scale: float) -> npt.NDArray[np.float64]:
    """Probabilities over the last axis: ``softmax(logit_scale * cosines)`` in float64, with the maximum taken out."""
    logits = cosines.astype(np.float64) * logit_scale
    logits -= logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits)
    probabilities: npt.NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


def rank(scores: npt.NDArray[np.floating], k: int | None = None) -> npt.NDArray[np.intp]:
    """Indices of the best k scores of ``[..., n]``, or of all, best first; ties keep the given order.

    Raises:
        EncodingError: a score is NaN, which has no rank.
    """
    if np.isnan(scores).any():
        raise EncodingError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN and have no rank")
    order: npt.NDArray[np.intp] = np.argsort(-scores, axis=-1, kind="stable")
    return order if k is None else order[..., :k]


def score_texts(cosines: Floats, texts: Sequence[str], rule: ScoreRule, top: int | None = None) -> tuple[Score, ...]:
    """Rank texts by their cosines with one image, float32 ``[texts]``, best first: all of them, or ``top``."""
    scores = score(cosines, rule)
    return tuple(
        Score(index=int(index), text=texts[index], score=float(scores[index]), cosine=float(cosines[index]))
        for index in rank(cosines, top)
    )
