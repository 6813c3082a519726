"""Known answers: whether a bundle gives what others published that its weights give."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipworks import scoring
from clipworks.bundle.card import ScoreRule
from clipworks.bundle.files import Bundle
from clipworks.bundle.provenance import KnownAnswers
from clipworks.display import quote_text
from clipworks.errors import ConversionError
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import Batch, Encoder, Role, open_encoder
from clipworks.text.tokenizers import open_tokenizer

EXACT = RuntimeOptions(precision="f32", cache=False)
IMAGES = Path(__file__).parent / "images"
"""The images that answers are known for, by the names that cards give them."""


@dataclass(frozen=True, kw_only=True)
class AnswerCheck:
    """One known answer beside what a bundle gives.

    Attributes:
        given: the text or image.
        difference: largest absolute one between the published values and the bundle's.
        tolerance: the largest that counts as equal.
        source: who published the values.
    """

    given: str
    difference: float
    tolerance: float
    source: str

    @property
    def right(self) -> bool:
        """Whether the bundle gives the answer."""
        return self.difference <= self.tolerance


def check_answers(bundle: Bundle, options: RuntimeOptions = EXACT) -> tuple[AnswerCheck, ...]:
    """Compare a bundle with the known answers in its card: weights, tokenizer, preprocessing and runtime together.

    Args:
        bundle: the bundle.
        options: what runs it; the answers are of f32.

    Returns:
        One check for each answer.

    Raises:
        RuntimeUnavailableError: the runtime is not available.
        ImageError: an image that the card names is not among `IMAGES`.
    """
    card, known = bundle.card, bundle.card.answers
    with contextlib.ExitStack() as opened:
        encoders: dict[Role, Encoder] = {}

        def embed(role: Role, batch: Batch) -> scoring.Floats:
            if role not in encoders:
                encoders[role] = opened.enter_context(contextlib.closing(open_encoder(bundle, role, options)))
            row: scoring.Floats = scoring.normalise(encoders[role](batch))[0]
            return row

        tokenizer = open_tokenizer(bundle.tokenizer, card.text)
        return judge_answers(
            known,
            card.score,
            embed_text=lambda text: embed("text", tokenizer.encode([text])),
            embed_image=lambda name: embed("image", load_batch([IMAGES / name], card.image)),
        )


def judge_answers(
    known: KnownAnswers,
    rule: ScoreRule,
    *,
    embed_text: Callable[[str], scoring.Floats],
    embed_image: Callable[[str], scoring.Floats],
) -> tuple[AnswerCheck, ...]:
    """Compare what embeds one text and one image of `IMAGES` to unit rows ``[dim]`` with known answers."""
    texts = [answer.given for answer in known.texts] + [text for answer in known.scores for text in answer.texts]
    images = [answer.given for answer in known.images] + [answer.image for answer in known.scores]
    rows = {text: embed_text(text) for text in dict.fromkeys(texts)}
    rows |= {name: embed_image(name) for name in dict.fromkeys(images)}
    checks = []
    for answer in (*known.texts, *known.images):
        found = rows[answer.given][: len(answer.first)]
        checks.append(_check(answer.given, found, answer.first, answer.tolerance, answer.source))
    for scored in known.scores:
        cosines = scoring.compare(rows[scored.image][None], np.stack([rows[text] for text in scored.texts]))[0]
        ranked = scoring.score_texts(cosines, scored.texts, rule, None)
        found = np.array([score.score for score in sorted(ranked, key=lambda score: score.index)])
        checks.append(_check(scored.image, found, scored.scores, scored.tolerance, scored.source))
    return tuple(checks)


def require_answers(bundle: Bundle) -> None:
    """Raise ConversionError, which names the answer that is furthest off, unless a bundle gives all known answers."""
    checks = check_answers(bundle)
    if not all(check.right for check in checks):
        raise ConversionError(
            f"{bundle.card.name} {describe_answers(checks)}",
            hint="the weights, the tokenizer or the card are not those of this model",
        )


def describe_answers(checks: Sequence[AnswerCheck]) -> str:
    """Say in one line how a bundle did: ``gives 9 of 9 known answers``."""
    right = sum(check.right for check in checks)
    said = f"gives {right} of {len(checks)} known answers"
    if right == len(checks):
        return said
    worst = max(checks, key=lambda check: check.difference / check.tolerance)
    return (
        f"{said}: {quote_text(worst.given)} is off by {worst.difference:.1e}; allowed: {worst.tolerance:.0e} "
        f"({worst.source})"
    )


def _check(given: str, found: scoring.Floats, published: Sequence[float], tolerance: float, source: str) -> AnswerCheck:
    difference = float(np.abs(found - np.array(published)).max())
    return AnswerCheck(given=given, difference=difference, tolerance=tolerance, source=source)
