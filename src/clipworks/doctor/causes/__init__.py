"""Causes: what may be behind a difference, tried where it can be, else what usually is."""

from __future__ import annotations

from collections.abc import Callable

from clipworks.doctor.causes.cases import Case
from clipworks.doctor.causes.images import (
    explain_decoded,
    explain_normalised,
    explain_pixels,
    explain_resized,
)
from clipworks.doctor.causes.joint import explain_cosines, explain_scale, explain_scores
from clipworks.doctor.causes.layers import (
    explain_batch,
    explain_layer,
    explain_overflow,
    explain_pooling,
    explain_projection,
)
from clipworks.doctor.causes.texts import explain_ids
from clipworks.doctor.diagnosis import Cause, StageResult
from clipworks.doctor.stages import LAYER

_TRIALS: dict[str, Callable[[Case], list[str]]] = {
    "decoded": explain_decoded,
    "resized": explain_resized,
    "pixels": explain_pixels,
    "normalised": explain_normalised,
    "ids": explain_ids,
    "logit_scale": explain_scale,
    "cosines": explain_cosines,
    "scores": explain_scores,
}
_TOWER = "other weights, a tensor that was transposed or not loaded"
_USUAL = {
    "decoded": "another JPEG decoder or a draft of it, EXIF orientation, BGR, alpha on black, a palette read as grey",
    "resized": "bilinear for bicubic, no antialiasing, both sides squashed, another short side, a long side rounded",
    "pixels": "centre offsets floored, not rounded; another size; BGR; channels first taken for channels last",
    "normalised": "mean and std of ImageNet or 0.5; a division by 255 that is missing or done twice; BGR",
    "image_patches": f"{_TOWER}: patch kernel, positions or the first normalisation; mean and std folded in wrongly",
    "text_tokens": f"{_TOWER}: token table or positions; positions that begin at 1 or at the padding",
    "image_pooled": "the mean of the rows for the class token's",
    "text_pooled": "the end token searched by another rule: the largest id, the first end token, the last row",
    "ids": "another vocabulary, text that was not cleaned or lower-cased, a long text cut without its end token",
    "logit_scale": "left out, or the logarithm that checkpoints store",
    "cosines": "embeddings that are not of unit length, or twice something",
    "scores": "no logit scale, the softmax over the wrong axis, a sigmoid",
}
_PROJECTION = f"{_TOWER}; the last normalisation left out; pooled from another row"
_LAYER = f"exact GELU for QuickGELU; {_TOWER}; no causal mask; another epsilon; a precision that overflows"


def explain(result: StageResult, case: Case) -> list[Cause]:
    """Causes of a difference that begins at a stage: those that give one side's values, else what usually is one."""
    name = result.name
    tried: list[str] = []
    if result.measure == "values":
        tried = explain_overflow(name, case)
    if not tried and result.precision:
        tried = [f"in f32 this stage is within tolerance, in {case.subject.about.precision} it is not"]
    if not tried:
        tried = _try(name, case)
    if tried:
        return [Cause(stage=name, text=text, proven=True) for text in tried]
    usual = _LAYER if LAYER.fullmatch(name) else _USUAL.get(name, _PROJECTION)
    return [Cause(stage=name, text=usual, proven=False)]


def _try(name: str, case: Case) -> list[str]:
    if name in _TRIALS:
        return _TRIALS[name](case)
    if LAYER.fullmatch(name):
        return explain_layer(name, case)
    if name.endswith("_pooled"):
        return explain_pooling(name, case)
    return explain_batch(name, case) or explain_projection(name, case) if name.endswith("_embedding") else []
