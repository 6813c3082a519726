"""Known answers: whether a bundle gives what others published that its weights give."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipworks import scoring
from clipworks.bundle.card import ScoreRule
from clipworks.bundle.files import Bundle, describe_file
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


def check_answers(
    bundle: Bundle, options: RuntimeOptions = EXACT, *, images: Path | None = None
) -> tuple[AnswerCheck, ...]:
    """Compare a bundle with the known answers in its card: weights, tokenizer, preprocessing and runtime together.

    Args:
        bundle: the bundle.
        options: what runs it; the answers are of f32.
        images: a folder of images that do not come with clipworks.

    Returns:
        One check for each answer, but for those whose image is not here.

    Raises:
        RuntimeUnavailableError: the runtime is not available.
        ConversionError: an image in the folder is not the one that the answer is known for.
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
            embed_image=lambda path: embed("image", load_batch([path], card.image)),
            images=images,
        )


def judge_answers(
    known: KnownAnswers,
    rule: ScoreRule,
    *,
    embed_text: Callable[[str], scoring.Floats],
    embed_image: Callable[[Path], scoring.Floats],
    images: Path | None = None,
) -> tuple[AnswerCheck, ...]:
    """Compare what embeds one text and one image to unit rows ``[dim]``, and a rule, with known answers.

    Those whose image is neither in `IMAGES` nor in the folder ``images`` are left out.
    """
    known = _keep_found(known, images)
    texts = [answer.given for answer in known.texts] + [text for answer in known.scores for text in answer.texts]
    rows = {text: embed_text(text) for text in dict.fromkeys(texts)}
    rows |= {name: embed_image(path) for name, path in _find_images(known, images).items() if path is not None}
    checks = []
    for answer in (*known.texts, *known.images):
        found = rows[answer.given][: len(answer.first)]
        checks.append(_check(answer.given, found, answer.first, answer.tolerance, answer.source))
    for scored in known.scores:
        cosines = scoring.compare(rows[scored.image][None], np.stack([rows[text] for text in scored.texts]))[0]
        ranked = scoring.score_texts(cosines, scored.texts, rule, None)
        found = np.array([score.score for score in sorted(ranked, key=lambda score: score.index)])
        checks.append(_check(scored.image, found, scored.scores, scored.tolerance, scored.source))
    for printed in known.rules:
        named = {
            "logit scale": (rule.logit_scale, printed.logit_scale),
            "logit bias": (rule.logit_bias, printed.logit_bias),
        }
        for name, (ours, theirs) in named.items():
            if theirs is not None:
                last_digit = 10.0 ** -len(theirs.partition(".")[2])
                checks.append(_check(name, np.array([ours]), (float(theirs),), last_digit, printed.source))
    return tuple(checks)


def list_missing(known: KnownAnswers, images: Path | None = None) -> tuple[str, ...]:
    """The images that answers are known for and that are neither in `IMAGES` nor in a folder."""
    return tuple(name for name, path in _find_images(known, images).items() if path is None)


def runs_towers(known: KnownAnswers) -> bool:
    """Whether known answers that can be checked here are of what the towers give."""
    found = _keep_found(known, None)
    return bool(found.texts or found.images or found.scores)


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


def _keep_found(known: KnownAnswers, folder: Path | None) -> KnownAnswers:
    found = _find_images(known, folder)
    return dataclasses.replace(
        known,
        images=tuple(answer for answer in known.images if found[answer.given]),
        scores=tuple(answer for answer in known.scores if found[answer.image]),
    )


def _find_images(known: KnownAnswers, folder: Path | None) -> dict[str, Path | None]:
    """Where the images of known answers are, by their names."""
    sums = {answer.image: None for answer in known.scores} | {answer.given: answer.sha256 for answer in known.images}
    found: dict[str, Path | None] = {}
    for name, sha256 in sums.items():
        places = [IMAGES / name, *([folder / name] if folder else [])]
        found[name] = next((place for place in places if place.is_file()), None)
        path = found[name]
        if path is not None and sha256 is not None and describe_file(path).sha256 != sha256:
            raise ConversionError(f"{path} is not the image that the answer is known for: its SHA-256 is another")
    return found


def _check(given: str, found: scoring.Floats, published: Sequence[float], tolerance: float, source: str) -> AnswerCheck:
    difference = float(np.abs(found - np.array(published)).max())
    return AnswerCheck(given=given, difference=difference, tolerance=tolerance, source=source)
