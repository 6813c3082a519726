"""Judging: where the stages of two pipelines differ past tolerance, and where that begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from clipworks.bundle.card import ImageSpec
from clipworks.doctor.deviation import Deviation, compare_stage
from clipworks.doctor.diagnosis import Drift, Effect, Mark, StageResult
from clipworks.doctor.images import Stretch
from clipworks.doctor.stages import Stage, Trace, choose_tolerance, list_stages

_ROUGHEST = ("f32", "f16", "bf16", "int8")  # by the tolerances of values


def judge(
    found: Stretch,
    control: Stretch | None,
    expected: Trace,
    *,
    spec: ImageSpec,
    precisions: tuple[str, str],
    own: Mapping[str, float],
) -> tuple[StageResult, ...]:
    """Compare every stage with what the reference has and say where differences begin.

    ``control`` is what was found in f32, where the pipeline has another precision; ``precisions`` are the pipeline's
    and the reference's, ``own`` tolerances of the user's own.
    """
    unseen_pixels = "pixels" not in expected
    stages = _list_compared(found.trace, expected)
    results: dict[str, StageResult] = {}
    for stage in stages:
        figures = _compare(stage, found.trace, expected, spec)
        in_f32 = None if control is None else _compare(stage, control.trace, expected, spec)
        base = precisions[1] if control is not None else max(precisions, key=_ROUGHEST.index)
        limit = choose_tolerance(stage, base, own, unseen=unseen_pixels)
        rough = max(limit, choose_tolerance(stage, precisions[0], own, unseen=unseen_pixels))
        fed = stage.name in found.fed
        past = _is_past(figures if in_f32 is None else in_f32, limit)
        lost = not past and in_f32 is not None and _is_past(figures, rough)
        seen, unseen = ((), ()) if fed else _look_back(stage, stages, results)
        mark: Mark = "missing" if figures is None else "ok"
        if past or lost:
            marked = [results[name] for name in seen if results[name].mark in ("begins", "follows")]
            # What is past tolerance in f32 too cannot come from what a precision lost before.
            mark = "follows" if any(lost or not result.precision for result in marked) else "begins"
        results[stage.name] = StageResult(
            name=stage.name,
            title=stage.title,
            branch=stage.branch,
            measure=stage.measure,
            mark=mark,
            precision=lost,
            fed=fed,
            tolerance=limit if past or in_f32 is None else rough,
            figures=figures,
            f32=in_f32,
            unseen=unseen if mark == "begins" else (),
        )
    return tuple(results.values())


def measure_drifts(found: Trace, control: Trace) -> tuple[Drift, ...]:
    """How a precision's values leave those of f32 along each branch."""
    drifts = []
    for branch in ("image", "text"):
        path = [stage for stage in _list_compared(found, control) if stage.branch == branch]
        values = [
            (stage.name, figures.relative)
            for stage in path
            if stage.measure == "values" and (figures := _compare(stage, found, control, None)) and figures.relative
        ]
        if not values:
            continue
        growth = np.diff([0.0, *(relative for _, relative in values)]).tolist()
        most = int(np.argmax(growth))
        at, largest = max(values, key=lambda value: value[1])
        drifts.append(Drift(branch=branch, largest=largest, at=at, grows_at=values[most][0], growth=growth[most]))
    return tuple(drifts)


def measure_effect(found: Trace, expected: Trace) -> Effect:
    """What all differences together do to cosines and scores."""
    largest: dict[str, float | None] = {}
    for name in ("cosines", "scores"):
        pairs = list(zip(found[name], expected.get(name, ()), strict=False))
        alike = bool(pairs) and all(one.shape == other.shape for one, other in pairs)
        worst = float(np.max([np.abs(one - other).max() for one, other in pairs])) if alike else None
        largest[name] = worst if worst is not None and np.isfinite(worst) else None
    changed = None
    if largest["scores"] is not None:
        changed = sum(
            int(np.argmax(one) != np.argmax(other))
            for one, other in zip(found["scores"], expected["scores"], strict=True)
        )
    return Effect(cosine=largest["cosines"], score=largest["scores"], top1_changed=changed)


def _list_compared(found: Trace, expected: Trace) -> list[Stage]:
    """The stages; a last layer of which neither side has more than the pooled row is left to the pooling."""
    kept: list[Stage] = []
    left: dict[str, tuple[str, ...]] = {}  # what came before a stage that is left out: what comes behind follows that
    for stage in list_stages([found, expected]):
        alone = [all(row.ndim == 1 for row in trace[stage.name]) for trace in (found, expected) if stage.name in trace]
        if "_layer_" in stage.name and len(alone) == 2 and all(alone):
            left[stage.name] = stage.before
        else:
            before = tuple(other for name in stage.before for other in left.get(name, (name,)))
            kept.append(dataclasses.replace(stage, before=before))
    return kept


def _compare(stage: Stage, found: Trace, expected: Trace, spec: ImageSpec | None) -> Deviation | None:
    if stage.name not in found or stage.name not in expected:
        return None
    unit = np.array(spec.std) * 255 if spec is not None and stage.name == "normalised" else None
    return compare_stage(stage, found[stage.name], expected[stage.name], unit=unit)


def _is_past(figures: Deviation | None, tolerance: float) -> bool:
    return figures is not None and (figures.judged is None or figures.judged > tolerance)


def _look_back(
    stage: Stage, stages: Sequence[Stage], results: Mapping[str, StageResult]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The nearest stages before that were compared, and those passed on the way."""
    seen: list[str] = []
    unseen: list[str] = []
    todo = list(stage.before)
    while todo:
        name = todo.pop()
        if results[name].mark != "missing":
            seen.append(name)
            continue
        unseen.insert(0, name)
        if not results[name].fed:
            todo += next(other.before for other in stages if other.name == name)
    return tuple(seen), tuple(dict.fromkeys(unseen))
