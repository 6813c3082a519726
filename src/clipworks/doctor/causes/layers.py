"""Causes of differences inside the towers: the equations are run with one thing changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from clipworks.bundle.card import Activation
from clipworks.doctor.causes.cases import SIDES, Case
from clipworks.doctor.deviation import find_row
from clipworks.doctor.equations import run_rows
from clipworks.doctor.joint import unit_rows
from clipworks.doctor.stages import ENTRIES, Array, Trace, name_entry
from clipworks.runtimes import ROLES, Role
from clipworks.towers.reference import Values, embed_tokens, project_rows
from clipworks.towers.weights import Linear, TextWeights, TowerWeights

_CLOSE = 2e-3  # relative: what a trial may miss a side's values by
_F16_LARGEST = 65504.0
ACTIVATIONS: dict[str, Activation] = {"QuickGELU": "quick_gelu", "exact GELU": "gelu", "GELU by tanh": "gelu_tanh"}
"""Those that the equations have, one of which may stand for another."""


def explain_layer(stage: str, case: Case) -> list[str]:
    """Which changed layer gives each side's rows: another activation, another mask, another epsilon."""
    role, weights = _find_tower(stage, case)
    if weights is None:
        return []
    index = int(stage.rpartition("_")[2])
    before = name_entry(role, index)
    if index >= len(weights.layers):
        return [f"the reference or this model has {index} layers more than the other"]
    either = case.entry(before)
    if either is None or any(rows.ndim != 2 for rows in (*either, *case.found.get(before, ()))):
        return []

    def describe(trace: Trace) -> str | None:
        trial = _find_trial(trace[stage], _list_layers(weights, index, trace.get(before, either)))
        return trial and f"it is computed with {trial}"

    return case.contrast(describe, partly=True)


def explain_pooling(stage: str, case: Case) -> list[str]:
    """Which row of the last layer each side pools."""
    role, weights = _find_tower(stage, case)
    rows = _find_last_rows(role, case, weights)
    if rows is None:
        return []

    def describe(trace: Trace) -> str | None:
        places = [_place(row, candidates) for row, candidates in zip(trace[stage], rows, strict=True)]
        if None not in places:
            return _describe_places([place for place in places if place is not None], role, case)
        means = [candidates.mean(axis=0) for candidates in rows]
        return "the mean of all rows" if max(map(_distance, trace[stage], means)) < _CLOSE else None

    return [f"the pooled row: {said}" for said in case.contrast(describe)]


def explain_projection(stage: str, case: Case) -> list[str]:
    """How each side comes from the last layer to its embedding."""
    role, weights = _find_tower(stage, case)
    if weights is None:
        return []

    def describe(trace: Trace) -> str | None:
        tried = _list_projections(weights, case.entry(f"{role}_pooled"), _find_last_rows(role, case, weights))
        trial = _find_trial(list(map(unit_rows, trace[stage])), tried)
        return trial and f"it is {trial}"

    return case.contrast(describe, partly=True)


def explain_batch(stage: str, case: Case) -> list[str]:
    """Whether each sample alone gets the reference's embedding that it does not get in a batch."""
    role, _ = _find_tower(stage, case)
    values = case.entry(ENTRIES[role]) or []
    if len(values) < 2 or any(value.dtype not in (np.uint8, np.int32) for value in values):
        return []
    alone = [case.subject.trace_tower(role, [value])[stage][0] for value in values]
    in_batch, by_itself = (
        max(map(_distance, map(unit_rows, rows), map(unit_rows, case.expected[stage])))
        for rows in (case.rough[stage], alone)
    )
    if by_itself > min(_CLOSE, in_batch / 10):
        return []
    count = len(values)
    return [f"here each {role} by itself gets the reference's embedding, in a batch of {count} it does not: padding"]


def explain_overflow(stage: str, case: Case) -> list[str]:
    """Whether values reach past the end of f16 on either side."""
    said = []
    for side, trace, other in ((SIDES[0], case.rough, case.expected), (SIDES[1], case.expected, case.rough)):
        values = [array.astype(np.float64) for array in trace[stage]]
        broken = sum(int((~np.isfinite(array)).sum()) for array in values)
        sizes = [np.abs(array[np.isfinite(array)]).max(initial=0) for array in values]
        stuck = bool(sizes) and max(sizes) == _F16_LARGEST
        if not broken and not stuck:
            continue
        true = max((float(np.abs(array).max(initial=0)) for array in other[stage]), default=0.0)
        what = f"{broken} values are NaN or Inf" if broken else "values stand at 65,504"
        if np.isfinite(true) and true > _F16_LARGEST:
            said.append(f"f16 overflows {side}: {what} where the other side reaches {true:,.0f}; f16 ends at 65,504")
        elif broken:
            said.append(
                f"{what} {side}, where the other side reaches {true:,.4g}: a sum inside the layer overflows "
                "(f16 ends at 65,504), or a softmax has no maximum taken out"
            )
    return said


def _find_tower(stage: str, case: Case) -> tuple[Role, TowerWeights | None]:
    role: Role = "image" if stage.startswith("image") else "text"
    return role, None if case.weights is None else case.weights[ROLES.index(role)]


def _list_layers(weights: TowerWeights, index: int, entry: Sequence[Array]) -> Iterator[tuple[str, list[Values]]]:
    """A layer as it should be, and with one thing changed each."""
    layer, spec = weights.layers[index], weights.spec
    causal = spec.mask == "causal"
    own = next((name for name, kind in ACTIVATIONS.items() if kind == spec.activation), spec.activation)
    trials = {
        f"{own}{' and the causal mask' if causal else ''}": spec,
        **{name: dataclasses.replace(spec, activation=kind) for name, kind in ACTIVATIONS.items() if name != own},
        "no causal mask" if causal else "a causal mask": dataclasses.replace(spec, mask="none" if causal else "causal"),
        "the epsilon 1e-12": dataclasses.replace(spec, norm_eps=1e-12),
        "the epsilon 1e-6": dataclasses.replace(spec, norm_eps=1e-6),
        "one head": dataclasses.replace(spec, heads=1),
    }
    if spec.norm_place == "post":
        trials["normalisations before the attention and the MLP (pre-norm)"] = dataclasses.replace(
            spec, norm_place="pre"
        )
    if spec.rotation is not None:
        other = 0.0 if spec.rotation.offset else 1.0
        numbered = dataclasses.replace(spec.rotation, offset=other)
        trials["no rotary positions"] = dataclasses.replace(spec, rotation=None)
        trials[f"rotary positions from {other:g}"] = dataclasses.replace(spec, rotation=numbered)
    for name, changed in trials.items():
        scale = weights.scale * ((changed.heads or 1) / (spec.heads or 1)) ** 0.5  # a head's width is in it
        yield name, run_rows(layer, entry, dataclasses.replace(weights, spec=changed, scale=scale))
    if index == 0 and isinstance(weights, TextWeights) and weights.pad_id is not None:
        yield from _list_unmasked(weights, entry, weights.pad_id)


def _list_unmasked(weights: TextWeights, entry: Sequence[Array], pad_id: int) -> Iterator[tuple[str, list[Values]]]:
    """The first layer of texts that see padding behind them: up to the longest of them, or up to the context."""
    context, lengths = len(weights.pos_embed), [len(rows) for rows in entry]
    fillers = embed_tokens(weights, np.full(context, pad_id, np.int32))
    for length, where in {max(lengths): "the longest text", context: "the context"}.items():
        filled = [np.concatenate([rows, fillers[len(rows) : length]]) for rows in entry]
        made = run_rows(weights.layers[0], filled, weights)
        yield f"padding up to {where} that is not masked", [rows[:own] for rows, own in zip(made, lengths, strict=True)]


def _list_projections(
    weights: TowerWeights, pooled: Sequence[Array] | None, rows: Sequence[Array] | None
) -> Iterator[tuple[str, list[Values]]]:
    """Embeddings of the pooled rows as they should be and otherwise, and those of other rows."""
    if pooled is not None:
        wide = np.stack(pooled).astype(np.float64)
        width = wide.shape[1]
        plain = np.eye(width) if weights.head is None else weights.head.weight.astype(np.float64)
        heads = {"normalised and projected": weights.head}
        if weights.head is not None and plain.shape[0] == plain.shape[1]:
            heads["multiplied by the projection transposed"] = Linear(weight=plain.T)
            heads["normalised but not projected"] = Linear(weight=np.eye(len(plain)))
        for name, head in heads.items():
            yield name, list(unit_rows(project_rows(wide, dataclasses.replace(weights, head=head))))
        yield "projected without the last normalisation", list(unit_rows(wide @ plain))
    if rows is not None:
        embedded = [project_rows(each.astype(np.float64), weights) for each in rows]
        for name, place in {"the first token": 0, "the last token": -1, "the token before the last": -2}.items():
            yield f"that of {name}", [unit_rows(each[place]) for each in embedded]
        yield "the mean of all tokens", [unit_rows(each.mean(axis=0)) for each in embedded]


def _find_trial(values: Sequence[Array], trials: Iterator[tuple[str, list[Values]]]) -> str | None:
    best, least = None, _CLOSE
    for name, made in trials:
        distance = max(map(_distance, values, made))
        if distance < least * 0.99:
            best, least = name, distance
    return best


def _distance(value: Array, made: Values) -> float:
    target = made[find_row(value, made)] if value.ndim == 1 and made.ndim == 2 else made
    if value.shape != target.shape:
        both = min(len(value), len(target))
        value, target = value[:both], target[:both]
    if value.shape != target.shape:
        return float("inf")
    wide = value.astype(np.float64)
    distance = float(np.linalg.norm(wide - target) / max(float(np.linalg.norm(target)), 1e-30))
    return distance if np.isfinite(distance) else float("inf")


def _find_last_rows(role: str, case: Case, weights: TowerWeights | None) -> list[Array] | None:
    """All rows of the last layer: one side's, or computed from the rows before it."""
    if weights is None:
        return None
    count = len(weights.layers)
    for name in (name_entry(role, count), name_entry(role, count - 1)):
        for trace in (case.expected, case.found):
            if name in trace and all(rows.ndim == 2 for rows in trace[name]):
                whole = name == name_entry(role, count)
                return trace[name] if whole else list(run_rows(weights.layers[-1], trace[name], weights))
    return None


def _place(row: Array, rows: Array) -> int | None:
    if row.shape[-1] != rows.shape[-1]:
        return None
    place = find_row(row, rows)
    return place if _distance(row, rows[place].astype(np.float64)) < 5 * _CLOSE else None


def _describe_places(places: Sequence[int], role: str, case: Case) -> str:
    if role == "image":
        return "the class token's" if not any(places) else f"row {', '.join(map(str, places))}"
    ids = case.entry("ids") or []
    if not any(places) and case.weights is not None and case.weights[1].spec.pooling == "cls":
        return "the [CLS] token's"
    if all(place == 0 for place in places):
        return "the first, as where no end token is found (an eos_token_id of 2 means: the largest id)"
    if all(place == len(row) - 1 for place, row in zip(places, ids, strict=True)):
        return "the end token's"
    return f"at {', '.join(map(str, places))} (texts end at {', '.join(str(len(row) - 1) for row in ids)})"
