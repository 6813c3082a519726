"""Where a model comes from, and what others published about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from clipworks.bundle.records import Finite, Positive
from clipworks.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """One file: its SHA-256 (hex) and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model's files come from.

    Attributes:
        hub: the hub id, ``owner/name``, or None when the model comes from elsewhere.
        revision: the commit or tag to take, or None for the newest.
        layout: the checkpoint's layout, as ``convert`` names it.
        files: what was read of the checkpoint, by name.
    """

    hub: str | None = None
    revision: str | None = None
    layout: str | None = None
    files: dict[str, BundleFile] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure that the model's makers or a well-known evaluation published; never one of ours."""

    imagenet_top1: float
    source: str


def check_printed(value: str, where: str) -> None:
    """Raise BundleError unless a text is a decimal number as somebody printed it."""
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        raise BundleError(f"{where} is {value!r}; allowed: a decimal number as it was printed, such as '-15.9'")


Printed = Annotated[str, check_printed]
"""A number with the digits that were printed of it."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingAnswer:
    """The first values of a text's or image's unit embedding, as others published them, and how far ours may be off.

    The checksum is an image's that does not come with clipworks, where it is known.
    """

    given: str
    first: tuple[Finite, ...]
    tolerance: Positive
    source: str
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreAnswer:
    """The scores of texts for an image, as others published them, and how far ours may be off."""

    image: str
    texts: tuple[str, ...]
    scores: tuple[Finite, ...]
    tolerance: Positive
    source: str


@dataclass(frozen=True, kw_only=True)
class RuleAnswer:
    """The logit scale and bias as others printed them, rounded or cut off: ours may differ by one of the last digit."""

    logit_scale: Printed
    logit_bias: Printed | None = None
    source: str


@dataclass(frozen=True, kw_only=True)
class KnownAnswers:
    """What the real weights are known to give; empty where nothing is published.

    Images are named as in `clipworks.convert.answers.IMAGES`; others are known for whoever has them.
    """

    texts: tuple[EmbeddingAnswer, ...] = ()
    images: tuple[EmbeddingAnswer, ...] = ()
    scores: tuple[ScoreAnswer, ...] = ()
    rules: tuple[RuleAnswer, ...] = ()


NO_ANSWERS = KnownAnswers()
