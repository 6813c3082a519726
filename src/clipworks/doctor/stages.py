"""Stages: the way from an image and a text to scores, cut where two pipelines can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from clipworks.bundle.card import TextSpec, TowerSpec
from clipworks.errors import UsageError, unknown_name

Array = npt.NDArray[Any]
# Stage to one array an image, a text, or, for scores, an image's row; the logit scale is one array alone.
Trace = dict[str, list[Array]]

Branch = Literal["image", "text", "joint"]
Measure = Literal["levels", "tokens", "values", "scale", "scores"]

LAYER = re.compile(r"(image|text)_layer_(\d+)")

# By tower: what it takes, and the rows of its first layer.
ENTRIES = {"image": "pixels", "text": "ids"}
FIRST_ROWS = {"image": "image_patches", "text": "text_tokens"}

# What rounding alone may do, by precision. Levels: the largest difference of a pixel, of 255 (another decoder or
# resizer rounds otherwise); tokens: texts that differ; values and scale: a row's distance from the reference's over
# the reference's length; scores: the largest difference of a probability.
TOLERANCES: dict[Measure, dict[str, float]] = {
    "levels": {"f32": 2.0, "bf16": 2.0, "f16": 2.0, "int8": 2.0},
    "tokens": {"f32": 0.0, "bf16": 0.0, "f16": 0.0, "int8": 0.0},
    "values": {"f32": 1e-3, "bf16": 5e-2, "f16": 1e-2, "int8": 2e-1},
    "scale": {"f32": 1e-3, "bf16": 1e-2, "f16": 5e-3, "int8": 1e-3},
    "scores": {"f32": 5e-3, "bf16": 5e-2, "f16": 1e-2, "int8": 1e-1},
}
# Pixels are whole numbers and their normalisation is exact: half a level tells another mean from rounding.
NORMALISED_LEVELS = 0.5


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One place where two pipelines are compared: named as dumps and ``--json`` do, and titled for people."""

    name: str
    title: str
    branch: Branch  # ``joint`` for what depends on both images and texts
    measure: Measure  # how a difference is judged; a key of `TOLERANCES`
    before: tuple[str, ...]  # the stages that it is computed from


def name_entry(role: str, layer: int) -> str:
    """The stage that a tower's layer is computed from: the layer before, or the first rows."""
    return f"{role}_layer_{layer - 1}" if layer else FIRST_ROWS[role]


def list_stages(traces: Iterable[Mapping[str, object]]) -> list[Stage]:
    """The stages of a model in order, with as many layers as any of the traces has."""
    counts = {"image": 0, "text": 0}
    for name in (name for trace in traces for name in trace):
        if found := LAYER.fullmatch(name):
            counts[found[1]] = max(counts[found[1]], int(found[2]) + 1)
    return [
        _stage("decoded", "decode", "image", "levels"),
        _stage("resized", "resize", "image", "levels", "decoded"),
        _stage("pixels", "crop", "image", "levels", "resized"),
        _stage("normalised", "normalise", "image", "levels", "pixels"),
        _stage("image_patches", "patch embedding", "image", "values", "normalised"),
        *_list_layers("image", counts["image"]),
        _stage("image_pooled", "image pooling", "image", "values", name_entry("image", counts["image"])),
        _stage("image_embedding", "image projection", "image", "values", "image_pooled"),
        _stage("ids", "tokens", "text", "tokens"),
        _stage("text_tokens", "text embedding", "text", "values", "ids"),
        *_list_layers("text", counts["text"]),
        _stage("text_pooled", "text pooling", "text", "values", name_entry("text", counts["text"])),
        _stage("text_embedding", "text projection", "text", "values", "text_pooled"),
        _stage("logit_scale", "logit scale", "joint", "scale"),
        _stage("cosines", "cosines", "joint", "scores", "image_embedding", "text_embedding"),
        _stage("scores", "scores", "joint", "scores", "cosines", "logit_scale"),
    ]


def sees_padding(text: TextSpec, tower: TowerSpec) -> bool:
    """Whether a text tower sees what fills a text, so that its ids belong to the text."""
    return text.padding == "fixed" and tower.mask == "none"


def is_stage(name: str) -> bool:
    """Whether a name is that of a stage, of any model."""
    return LAYER.fullmatch(name) is not None or any(stage.name == name for stage in list_stages([]))


def parse_tolerances(words: Iterable[str]) -> dict[str, float]:
    """Read tolerances of a user's own, a number for all float values, or ``NAME=NUMBER`` for a stage or a measure."""
    found: dict[str, float] = {}
    for word in words:
        name, equals, value = word.rpartition("=")
        name = name if equals else "values"
        if name not in TOLERANCES and not is_stage(name):
            known = [*TOLERANCES, *(stage.name for stage in list_stages([])), "image_layer_0"]
            raise unknown_name("stage", name, dict.fromkeys(known))
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = -1.0
        if not 0 <= found[name] < float("inf"):
            raise UsageError(f"--tolerance {word!r}: allowed: a number from 0 on, or NAME=NUMBER")
    return found


def choose_tolerance(stage: Stage, precision: str, own: Mapping[str, float], *, unseen: bool) -> float:
    """The tolerance of a stage: the user's own for it or its measure, or that of the precision.

    ``unseen``: the pixels were not seen apart, so that normalised ones may be off by as much as these.
    """
    if stage.name in own:
        return own[stage.name]
    tolerance = own.get(stage.measure, TOLERANCES[stage.measure][precision])
    if stage.name != "normalised":
        return tolerance
    if unseen:
        return own.get(stage.measure, NORMALISED_LEVELS) + TOLERANCES["levels"][precision]
    return max(own.get(stage.measure, 0.0), NORMALISED_LEVELS)


def _stage(name: str, title: str, branch: Branch, measure: Measure, *before: str) -> Stage:
    return Stage(name=name, title=title, branch=branch, measure=measure, before=before)


def _list_layers(branch: Branch, count: int) -> list[Stage]:
    return [
        _stage(f"{branch}_layer_{index}", f"{branch} layer {index}", branch, "values", name_entry(branch, index))
        for index in range(count)
    ]
