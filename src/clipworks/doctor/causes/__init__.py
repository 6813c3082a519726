"""Causes: what may be behind a difference, tried where it can be, else what usually is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from clipworks.doctor.causes import images, joint, layers, padding, texts
from clipworks.doctor.causes.cases import Case
from clipworks.doctor.diagnosis import Cause, StageResult
from clipworks.doctor.stages import LAYER

Trial = Callable[[str, Case], list[str]]


class _Suspicion(NamedTuple):
    """What is done where a difference begins at a stage."""

    usual: str  # what is behind it as a rule
    trials: tuple[Trial, ...] = ()  # tried in this order, until one of them explains it


_TOWER = "other weights, a tensor that was transposed or not loaded"
_PROJECTION = f"{_TOWER}; the last normalisation left out; pooled from another row"
_LAYER = _Suspicion(
    f"exact GELU for QuickGELU; {_TOWER}; no causal mask; another epsilon; a precision that overflows",
    (layers.explain_layer,),
)
_ROWS = {
    "decoded": _Suspicion(
        "another JPEG decoder or a draft of it, EXIF orientation, BGR, alpha on black, a palette read as grey",
        (images.explain_alpha, images.explain_decoded),
    ),
    "resized": _Suspicion(
        "bilinear for bicubic, no antialiasing, both sides squashed, another short side, a long side rounded",
        (images.explain_resized,),
    ),
    "pixels": _Suspicion(
        "centre offsets floored, not rounded; another size; BGR; channels first taken for channels last",
        (images.explain_pixels,),
    ),
    "normalised": _Suspicion(
        "mean and std of ImageNet or 0.5; a division by 255 that is missing or done twice; BGR",
        (images.explain_squares, images.explain_normalised),
    ),
    "image_patches": _Suspicion(
        f"{_TOWER}: patch kernel, positions or the first normalisation; mean and std folded in wrongly"
    ),
    "text_tokens": _Suspicion(
        f"{_TOWER}: token table or positions; positions that begin at 1 or at the padding; BERT's token type left out"
    ),
    "image_pooled": _Suspicion("the mean of the rows for the class token's", (layers.explain_pooling,)),
    "text_pooled": _Suspicion(
        "the end token searched by another rule: the largest id, the first end token, the last row; BERT's pooler",
        (layers.explain_pooling,),
    ),
    "image_embedding": _Suspicion(_PROJECTION, (layers.explain_batch, layers.explain_projection)),
    "text_embedding": _Suspicion(_PROJECTION, (layers.explain_batch, layers.explain_projection)),
    "ids": _Suspicion(
        "another vocabulary, text that was not cleaned or lower-cased, a long text cut without its end token",
        (padding.explain_padding, texts.explain_cut, texts.explain_case, texts.explain_ids),
    ),
    "logit_scale": _Suspicion("left out, or the logarithm that checkpoints store", (joint.explain_scale,)),
    "cosines": _Suspicion("embeddings that are not of unit length, or twice something", (joint.explain_cosines,)),
    "scores": _Suspicion("no logit scale, the softmax over the wrong axis, a sigmoid", (joint.explain_scores,)),
}


def explain(result: StageResult, case: Case) -> list[Cause]:
    """Causes of a difference that begins at a stage: those that give one side's values, else what usually is one."""
    name = result.name
    row = _LAYER if LAYER.fullmatch(name) else _ROWS[name]
    tried = layers.explain_overflow(name, case) if result.measure == "values" else []
    if not tried and result.precision:
        tried = [f"in f32 this stage is within tolerance, in {case.subject.about.precision} it is not"]
    tried = tried or next((said for trial in row.trials if (said := trial(name, case))), [])
    return [Cause(stage=name, text=text, proven=bool(tried)) for text in tried or [row.usual]]
