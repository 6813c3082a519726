"""Causes of differences behind the towers: what people leave out between embeddings and scores is tried."""

from __future__ import annotations

import math

import numpy as np

from clipworks.doctor.causes.cases import SIDES, Case
from clipworks.doctor.joint import Rows, unit_rows
from clipworks.scoring import softmax

_CLOSE = 1e-3
_UNTRAINED = 1 / 0.07


def explain_scale(stage: str, case: Case) -> list[str]:
    """What stands in the place of the logit scale."""
    here, there = (float(side[0]) for side in case.sides(stage))
    for side, value, other in ((SIDES[0], here, there), (SIDES[1], there, here)):
        known = {
            "as where it is left out": 1.0,
            "the logarithm of the other's: checkpoints store that, the exponential was not taken": _log(other),
            "the inverse of the other's: a temperature": 1 / other if other else math.inf,
            "what training begins with, 1 / 0.07: the trained one was not loaded": _UNTRAINED,
        }
        for text, meant in known.items():
            if math.isclose(value, meant, rel_tol=_CLOSE):
                return [f"{side} it is {value:.5g}, {text}"]
    return [f"it is {here:.5g} here, {there:.5g} in the reference"]


def explain_cosines(stage: str, case: Case) -> list[str]:
    """Whether embeddings were not brought to unit length."""
    images, texts, scale = (_stack(case, name) for name in ("image_embedding", "text_embedding", "logit_scale"))
    right = unit_rows(images) @ unit_rows(texts).T
    trials = {
        "products of embeddings that are not of unit length": images @ texts.T,
        "products of which only the images are of unit length": unit_rows(images) @ texts.T,
        "products of which only the texts are of unit length": images @ unit_rows(texts).T,
        "cosines times the logit scale": right * scale,
    }
    return _try(stage, case, right, trials)


def explain_scores(stage: str, case: Case) -> list[str]:
    """Whether scores are something else than the model's rule makes of the cosines."""
    cosines, scale, rule = _stack(case, "cosines"), float(_stack(case, "logit_scale")[0]), case.subject.score
    logits = scale * cosines + rule.logit_bias
    rules = {"softmax": softmax(logits, 1.0), "sigmoid": 1 / (1 + np.exp(-np.clip(logits, -700, 700)))}
    trials = {
        "the softmax of the cosines: the logit scale is left out": softmax(cosines, 1.0),
        "the softmax with the logarithm of the logit scale": softmax(cosines, _log(scale)),
        "the softmax with the logit scale twice": softmax(logits, scale),
        "the softmax over the images, not the texts": softmax(logits.T, 1.0).T,
        "the sigmoid without the logit bias": 1 / (1 + np.exp(-np.clip(scale * cosines, -700, 700))),
        **{f"the {kind} of the logits": made for kind, made in rules.items()},
        "the logits themselves": logits,
        "the cosines themselves": cosines,
    }
    return _try(stage, case, rules[rule.kind], trials)


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


def _stack(case: Case, stage: str) -> Rows:
    """What the values that are examined were computed from."""
    return np.stack(case.entry(stage) or []).astype(np.float64)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
