"""A checkpoint before and behind its family: what its files hold, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clipworks.bundle.card import ImageSpec, ScoreRule, TextSpec, TowerSpec
from clipworks.errors import ConversionError
from clipworks.families.adapters import Adapter
from clipworks.families.tensors import TensorTable
from clipworks.towers.weights import ImageWeights, TextWeights

Layouts = Literal["huggingface", "open_clip", "openai"]


@dataclass(frozen=True, kw_only=True)
class Fields:
    """An object of a configuration, whose values are checked as they are read; ``where`` names it in messages."""

    values: Mapping[str, Any]
    where: str

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number over 0, or one of a square's two sides; ConversionError for all else."""
        value = self.values.get(name, default)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        if type(value) is not int or value < 1:
            raise ConversionError(f"{self.where}.{name} is {value!r}; allowed: a whole number over 0")
        return value


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """What the files of a checkpoint say in their layout's own words; a family tells what it means.

    Attributes:
        layout: how the files are laid out.
        weights: the file of weights, or its index.
        files: all files that are read.
        config: what the model's configuration says; empty where the layout has none.
        preprocessing: what says how images become input; None where nothing does.
        preprocessing_place: where that stands, or should.
        given: the same as the caller says it; None where the caller says nothing.
        adapter: what is merged into the weights; None for a whole checkpoint.
        table: the tensors, where they have been read to know the family; else None.
    """

    layout: Layouts
    weights: Path
    files: tuple[Path, ...]
    config: Fields
    preprocessing: Fields | None
    preprocessing_place: str
    given: ImageSpec | None = None
    adapter: Adapter | None = None
    table: TensorTable | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything that a checkpoint says.

    Attributes:
        family: the module that read it.
        layout: how its files are laid out.
        files: all that were read.
        image: the image tower, nothing folded.
        text: the text tower, likewise.
        image_input: how images become the image tower's input.
        text_input: how texts become the text tower's input.
        score: how cosines become scores.
        tokenizer: the tokenizer's file; None for OpenAI's own.
    """

    family: str
    layout: str
    files: tuple[Path, ...]
    image: ImageWeights
    text: TextWeights
    image_input: ImageSpec
    text_input: TextSpec
    score: ScoreRule
    tokenizer: Path | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What a checkpoint's configuration says, or its tensors; ``end_id`` is the token pooled at, where it names one."""

    image: TowerSpec
    text: TowerSpec
    image_size: int
    vocabulary: int
    context: int
    dim: int
    end_id: int | None = None


def require_squash(files: CheckpointFiles, pixels: ImageSpec, model: str) -> None:
    """Raise ConversionError where images are cut, of a ``model`` that brings both sides to its size."""
    if pixels.resize != "squash":
        raise ConversionError(
            f"{files.preprocessing_place}: {model} squashes images, both sides to {pixels.size} pixels; "
            "it asks for the shorter side and a crop"
        )


def check_heads(spec: TowerSpec, where: str) -> TowerSpec:
    """Give an architecture back; ConversionError, which says where it stands, if its width does not divide."""
    if spec.width % max(spec.heads or 1, 1):
        raise ConversionError(f"{where}: the width {spec.width} does not divide among {spec.heads} heads")
    return spec
