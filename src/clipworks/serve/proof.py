"""Proof: that a model gives what it should, on this machine, as it was opened, before it answers anyone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipworks import runtimes
from clipworks.bundle.files import Bundle
from clipworks.convert.answers import IMAGES, describe_answers, judge_answers, runs_towers
from clipworks.display import quote_text
from clipworks.errors import EncodingError
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.runtimes.protocol import Role
from clipworks.scoring import Floats

_TEXT, _IMAGE = "a photo of a dog", IMAGES / "CLIP.png"
# Calls of which the quickest counts.
_TIMES = 3
# The least cosine with f32 that passes: a fault in weights, tokens or pixels gives far less.
_LEAST = {"f32": 0.9999, "bf16": 0.99, "f16": 0.99, "int8": 0.9}


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a model was compared with, and how it did."""

    passed: bool
    said: str  # one line


def prove_model(model: Model, bundle: Bundle) -> Proof:
    """Compare a model with the known answers of its card, else with f32.

    The known answers are of f32: a model in another precision, or of a card that has none, is compared with f32 on
    the same runtime, and f32 itself with f32 on another runtime where one is installed.
    """
    known = bundle.card.answers
    if model.precision == "f32" and runs_towers(known):
        checks = judge_answers(
            known,
            bundle.card.score,
            embed_text=lambda text: model.embed_texts([text])[0],
            embed_image=lambda path: model.embed_images(path)[0],
        )
        return Proof(passed=all(check.right for check in checks), said=describe_answers(checks))
    own = _embed_probes(model)
    runtime = _choose_reference(model)
    if (runtime, "f32") == (model.runtime, model.precision):
        again = _embed_probes(model)
        passed = bool(np.isfinite(own).all() and np.array_equal(own, again) and not np.allclose(own[0], own[1]))
        return Proof(passed=passed, said="gives the same answer twice; no other runtime is here to compare with")
    device = model.device if runtime == model.runtime else "auto"
    options = RuntimeOptions(runtime=runtime, device=device, precision="f32", cache=False)
    with Model(bundle, options) as reference:
        cosine = float(np.sum(own.astype(np.float64) * _embed_probes(reference), axis=1).min())
    return Proof(passed=cosine >= _LEAST[model.precision], said=f"cosine {cosine:.6f} with {runtime} in f32")


def time_model(model: Model) -> dict[Role, float]:
    """How many seconds one image and one text take in the encoder: what the queue goes by before it has seen any."""
    pixels = model.prepare_image(_IMAGE)[None]
    taken: dict[Role, float] = {}
    calls: dict[Role, Callable[[], object]] = {
        "image": lambda: model.embed_pixels(pixels),
        "text": lambda: model.embed_texts(_TEXT),
    }
    for role, call in calls.items():
        times = []
        for _ in range(_TIMES):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        taken[role] = min(times)  # too high a figure would refuse what there is time for
    return taken


def require_proof(name: str, proof: Proof) -> None:
    """Raise EncodingError for a model that has not passed."""
    if not proof.passed:
        raise EncodingError(
            f"{quote_text(name)} is not served: {proof.said}", hint="clipworks doctor finds where it begins to differ"
        )


def _embed_probes(model: Model) -> Floats:
    return np.concatenate([model.embed_texts([_TEXT]), model.embed_images(_IMAGE)])


def _choose_reference(model: Model) -> str:
    if model.precision != "f32" or not runtimes.find_runtime(model.runtime).listed:
        return model.runtime
    others = [name for name in runtimes.list_installed(runtimes.list_defaults()) if name != model.runtime]
    return others[-1] if others else model.runtime
