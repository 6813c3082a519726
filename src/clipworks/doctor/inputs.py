"""What to try a pipeline with: images and texts that show the faults that are known, and what given ones cannot."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import numpy as np

from clipworks.doctor.images import list_alphas
from clipworks.doctor.pipelines import Inputs, Pipeline
from clipworks.doctor.stages import Trace
from clipworks.images.decode import load_image
from clipworks.images.modes import to_rgb
from clipworks.images.resize import resize_image

# Of photographs that come with the package: colours, and margins that are odd for most sizes.
_IMAGES = ("rocket.jpg", "chelsea.jpg")
# Plain; with capitals, accents, an HTML entity and figures; over any context.
TEXTS = (
    "a photo of a cat",
    "Two cafés &amp; 128 Größen: the LAUNCH of a rocket!",
    "a very long caption, " * 64 + "and its end",
)


def list_images() -> tuple[str, ...]:
    """The files of the built-in images."""
    folder = Path(str(importlib.resources.files("clipworks") / "profiling" / "images"))
    return tuple(str(folder / name) for name in _IMAGES)


def find_blind_spots(inputs: Inputs, pipeline: Pipeline, expected: Trace) -> list[str]:
    """Faults that would not show with these inputs."""
    notes = []
    spec, text = pipeline.spec, pipeline.text
    images = [load_image(given, options=inputs.options, drop_alpha=spec.drop_alpha) for given in inputs.images]
    if spec.resize == "shortest":
        margins = [side - spec.size for image in images for side in resize_image(image, spec).size]
        if all(round(margin / 2) == margin // 2 for margin in margins):
            notes.append("no image has an odd margin: a crop with floored offsets would not show")
    if all((np.ptp(np.asarray(to_rgb(image)).astype(int), axis=-1) <= 2).all() for image in images):
        notes.append("no image has colours: exchanged channels would not show")
    if not any(list_alphas(given, inputs.options) for given in inputs.images):
        notes.append("no image has alpha: dropped at another time, or composited, it would not show")
    if all(len(row) < text.context for row in pipeline.tokenizer.encode_ragged(inputs.texts, truncate=True)):
        notes.append(f"no text has {text.context} tokens or more: a wrong cut of long texts would not show")
    if len(inputs.texts) < 2 and pipeline.score.kind == "softmax":
        notes.append("one text alone always has the score 1: a wrong logit scale would not show in it")
    if not any(name in expected for name in ("decoded", "resized", "pixels", "normalised")):
        notes.append("the reference has no image before its tower: decode, resize, crop, normalise are not seen apart")
    if "ids" not in expected:
        notes.append("the reference has no token ids: a difference in the text tower may be one of the tokens")
    return notes
