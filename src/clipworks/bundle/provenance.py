"""Where a model comes from, and what others published about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipworks.bundle.records import Finite, Positive


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


@dataclass(frozen=True, kw_only=True)
class EmbeddingAnswer:
    """The first values of a text's or image's unit embedding, as others published them, and how far ours may be off."""

    given: str
    first: tuple[Finite, ...]
    tolerance: Positive
    source: str


@dataclass(frozen=True, kw_only=True)
class ScoreAnswer:
    """The scores of texts for an image, as others published them, and how far ours may be off."""

    image: str
    texts: tuple[str, ...]
    scores: tuple[Finite, ...]
    tolerance: Positive
    source: str


@dataclass(frozen=True, kw_only=True)
class KnownAnswers:
    """What the real weights are known to give; empty where nothing is published.

    Images are named as in `clipworks.convert.answers.IMAGES`.
    """

    texts: tuple[EmbeddingAnswer, ...] = ()
    images: tuple[EmbeddingAnswer, ...] = ()
    scores: tuple[ScoreAnswer, ...] = ()


NO_ANSWERS = KnownAnswers()
