"""Causes of differences behind the towers: what people leave out between embeddings and scores is tried."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from clipworks.doctor.causes.cases import SIDES, Case
from clipworks.doctor.joint import unit_rows

_CLOSE = 1e-3
_UNTRAINED = 1 / 0.07
Rows = npt.NDArray[np.float64]


def explain_scale(case: Case) -> list[str]:
    """What stands in the place of the logit scale."""
    values = [float(side[0]) for side in case.sides("logit_scale")]
    here, there = values
    for side, value, other in ((SIDES[0], here, there), (SIDES[1], there, here)):
        known: dict[str, float] = {
            "as where it is left out": 1.0,
            "the logarithm of the other's: checkpoints store that, the exponential was not taken": _log(other),
            "the inverse of the other's: a temperature": 1 / other if other else math.inf,
            "what training begins with, 1 / 0.07: the trained one was not loaded": _UNTRAINED,
        }
        for text, meant in known.items():
            if math.isclose(value, meant, rel_tol=_CLOSE):
                return [f"{side} it is {value:.5g}, {text}"]
    return [f"it is {here:.5g} here, {there:.5g} in the reference"]


def explain_cosines(case: Case) -> list[str]:
    """Whether embeddings were not brought to unit length."""
    raw = [case.expected.get(f"{role}_embedding", case.found[f"{role}_embedding"]) for role in ("image", "text")]
    images, texts = (np.stack(rows).astype(np.float64) for rows in raw)
    scale = float(case.expected.get("logit_scale", case.found["logit_scale"])[0])
    trials = {
        "products of embeddings that are not of unit length": images @ texts.T,
        "products of which only the images are of unit length": unit_rows(images) @ texts.T,
        "products of which only the texts are of unit length": images @ unit_rows(texts).T,
        "cosines times the logit scale": unit_rows(images) @ unit_rows(texts).T * scale,
    }
    return _try("cosines", case, unit_rows(images) @ unit_rows(texts).T, trials)


def explain_scores(case: Case) -> list[str]:
    """Whether scores are something else than the model's rule makes of the cosines."""
    cosines = np.stack(case.expected.get("cosines", case.found["cosines"])).astype(np.float64)
    scale = float(case.expected.get("logit_scale", case.found["logit_scale"])[0])
    rule = case.subject.score
    logits = scale * cosines + rule.logit_bias
    softmax, sigmoid = _softmax(logits, axis=1), 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    trials = {
        "the softmax of the cosines: the logit scale is left out": _softmax(cosines, axis=1),
        "the softmax with the logarithm of the logit scale": _softmax(_log(scale) * cosines, axis=1),
        "the softmax with the logit scale twice": _softmax(scale * logits, axis=1),
        "the softmax over the images, not the texts": _softmax(logits, axis=0),
        "the softmax of the logits": softmax,
        "the sigmoid of the logits": sigmoid,
        "the logits themselves": logits,
        "the cosines themselves": cosines,
    }
    return _try("scores", case, softmax if rule.kind == "softmax" else sigmoid, trials)


def _try(stage: str, case: Case, right: Rows, trials: dict[str, Rows]) -> list[str]:
    """What a side has that does not have the right values."""
    for side, rows in zip(SIDES, case.sides(stage), strict=True):
        value = np.stack(rows)
        for text, made in ({} if _is_close(value, right) else trials).items():
            if _is_close(value, made):
                return [f"{side} they are {text}"]
    return []


def _is_close(value: Rows, made: Rows) -> bool:
    return value.shape == made.shape and bool(np.abs(value - made).max() <= _CLOSE * max(1.0, np.abs(made).max()))


def _softmax(logits: Rows, *, axis: int) -> Rows:
    weights = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return np.asarray(weights / weights.sum(axis=axis, keepdims=True))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
