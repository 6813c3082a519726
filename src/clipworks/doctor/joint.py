"""The stages that take both towers: logit scale, cosines, scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from clipworks import scoring
from clipworks.bundle.card import ScoreRule
from clipworks.doctor.images import Stretch
from clipworks.doctor.stages import Array, Trace

Rows = npt.NDArray[np.float64]


def trace_joint(own: Mapping[str, list[Array]], rule: ScoreRule, *, given: Mapping[str, list[Array]]) -> Stretch:
    """Cosines and scores of embeddings; each from the other pipeline's values where these are given."""
    fed = set()
    trace: Trace = {"logit_scale": [np.array(rule.logit_scale, np.float64)]}
    images, texts = (_choose(own, given, f"{role}_embedding") for role in ("image", "text"))
    if images is not own.get("image_embedding") and texts is not own.get("text_embedding"):
        fed.add("cosines")
    trace["cosines"] = list(unit_rows(np.stack(images)) @ unit_rows(np.stack(texts)).T)
    cosines = trace["cosines"]
    if "cosines" in given and all(row.shape == (len(texts),) for row in given["cosines"]):
        cosines = given["cosines"]
    if "cosines" in given or "cosines" in fed:
        fed.add("scores")
    if "logit_scale" in given:
        rule = dataclasses.replace(rule, logit_scale=float(given["logit_scale"][0]))
    with np.errstate(invalid="ignore"):
        trace["scores"] = [scoring.score(np.asarray(row), rule) for row in cosines]
    return Stretch(trace=trace, fed=frozenset(fed))


def unit_rows(rows: npt.NDArray[np.floating]) -> Rows:
    """Rows of unit length in float64; what is infinite or no number stays no number."""
    wide = rows.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-30))


def _choose(own: Mapping[str, list[Array]], given: Mapping[str, list[Array]], name: str) -> Sequence[Array]:
    mine, theirs = own[name], given.get(name)
    if theirs is None or len(theirs) != len(mine) or any(row.shape != mine[0].shape for row in theirs):
        return mine
    return theirs
