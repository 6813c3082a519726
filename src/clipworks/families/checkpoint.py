"""A checkpoint, read: its towers, and all facts of a card that it says itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.card import ImageInput, ScoreRule, TextInput
from clipworks.towers.weights import ImageWeights, TextWeights


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything that a checkpoint says.

    Attributes:
        family: the module that read it.
        layout: ``huggingface``, ``open_clip`` or ``openai``.
        files: the files that it was read from.
        image: the image tower, nothing folded.
        text: the text tower, likewise.
        image_input: how images become its input.
        text_input: how texts become its input.
        score: how cosines become scores.
    """

    family: str
    layout: str
    files: tuple[Path, ...]
    image: ImageWeights
    text: TextWeights
    image_input: ImageInput
    text_input: TextInput
    score: ScoreRule
