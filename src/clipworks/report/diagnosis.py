"""A diagnosis of the doctor: the verdict, the stages, the causes."""

from __future__ import annotations

from collections.abc import Mapping

from clipworks.display import cut_text, measure_width, show_text
from clipworks.doctor.deviation import Deviation
from clipworks.doctor.diagnosis import About, Diagnosis, StageResult
from clipworks.report.document import Document, FactList, Section
from clipworks.report.tables import tabulate

_MARKS = {"ok": "", "begins": "BEGINS HERE", "follows": "follows", "missing": "not compared"}
_KINDS = {
    "bundle": "{name}: {runtime} on {device}, {precision}",
    "equations": "{name}: the equations with its own weights, float64",
    "checkpoint": "{name}: the equations with this checkpoint's weights, float64",
    "dump": "{name}: a dump, {precision}",
}


def show_diagnosis(diagnosis: Diagnosis) -> Document:
    """A diagnosis with the verdict as its title."""
    titles = {result.name: result.title for result in diagnosis.stages}
    facts = (
        ("model", _describe(diagnosis.subject)),
        ("reference", _describe(diagnosis.reference)),
        ("inputs", f"{len(diagnosis.images)} images, {len(diagnosis.texts)} texts"),
    )
    both = any(result.f32 is not None for result in diagnosis.stages)
    stages = tabulate(
        "",
        diagnosis.stages,
        (
            ("stage", lambda result: result.title),
            ("difference", lambda result: _say_deviation(result, result.figures)),
            ("in f32", lambda result: _say_deviation(result, result.f32) if both else ""),
            (
                "tolerance",
                lambda result: "" if result.figures is None else _say_number(result.tolerance, result.measure),
            ),
            ("", lambda result: _MARKS[result.mark]),
        ),
    )
    places = [(result.title, _say_place(result, diagnosis)) for result in diagnosis.stages if result.mark == "begins"]
    said = [f"{title}: {place}" for title, place in places if place]
    said += [f"{titles[one.stage]}{'' if one.proven else ', usually'}: {one.text}" for one in diagnosis.causes]
    effect = [*_describe_effect(diagnosis)]
    effect += [
        f"{diagnosis.subject.precision} against f32, {drift.branch}: up to {drift.largest:.2g} of a value's length "
        f"at {titles.get(drift.at, drift.at)}; most is added at {titles.get(drift.grows_at, drift.grows_at)} "
        f"({drift.growth:+.2g})"
        for drift in diagnosis.drifts
    ]
    effect += [f"note: {note}" for note in diagnosis.notes]
    sections = (Section(items=(FactList(rows=facts), stages)), Section(text=tuple(said)), Section(text=tuple(effect)))
    return Document(title=_say_verdict(diagnosis), sections=tuple(one for one in sections if one.items or one.text))


def _say_verdict(diagnosis: Diagnosis) -> str:
    compared = sum(result.mark != "missing" for result in diagnosis.stages)
    if diagnosis.verdict == "healthy":
        return f"HEALTHY: {compared} of {len(diagnosis.stages)} stages compared, none past its tolerance"
    titles = {result.name: result.title for result in diagnosis.stages}
    first, *others = (
        f"{result.title}{_say_unseen(result, titles)}" for result in diagnosis.stages if result.mark == "begins"
    )
    begins = f"begins at {first}" + (f"; by itself also at {', '.join(others)}" if others else "")
    if diagnosis.verdict == "precision":
        precision = diagnosis.subject.precision
        return f"PRECISION LOSS: in f32 nothing differs; with {precision} what is past tolerance {begins}"
    return f"DIFFERS: it {begins}"


def _say_unseen(result: StageResult, titles: Mapping[str, str]) -> str:
    if not result.unseen:
        return ""
    return f" or before it (not compared: {', '.join(titles[name] for name in result.unseen)})"


def _describe(about: About) -> str:
    return _KINDS[about.kind].format(
        name=about.name, runtime=about.runtime, device=about.device, precision=about.precision
    )


def _say_deviation(result: StageResult, found: Deviation | None) -> str:
    if found is None:
        return ""
    if found.judged is None:
        return "inf/nan" if found.broken else "shape"
    return _say_number(found.judged, result.measure)


def _say_number(value: float, measure: str) -> str:
    if measure == "levels":
        return f"{value:.3g}/255"
    if measure == "tokens":
        return f"{value:.0%}"
    return f"{value:.2g}" if value else "0"


def _say_place(result: StageResult, diagnosis: Diagnosis) -> str:
    found = result.figures if result.precision or result.f32 is None else result.f32
    if found is None:
        return ""
    said = [found.note] if found.note else []
    if found.where and result.measure != "scale" and (found.found, found.expected) != (None, None):
        sample, *place = found.where
        kind = "text" if result.branch == "text" else "image"
        here, there = ("none" if value is None else f"{value:.6g}" for value in (found.found, found.expected))
        said.append(f"{kind} {sample + 1}{_describe_axes(result, place)}: {here} here, {there} in the reference")
    if result.measure == "tokens" and found.where:
        text = show_text(diagnosis.texts[found.where[0]])
        said.append(f"“{text if measure_width(text) <= 48 else cut_text(text, 45) + '...'}”")
    return "; ".join(said)


def _describe_axes(result: StageResult, place: list[int]) -> str:
    if result.measure == "levels" and len(place) == 3:
        return f", row {place[0]}, column {place[1]}, {('red', 'green', 'blue')[place[2] % 3]}"
    names = {"tokens": ("token",), "values": ("row", "value")}.get(result.measure, ("text",))
    labels = names[-len(place) :] if place else ()
    return "".join(f", {label} {number}" for label, number in zip(labels, place, strict=False))


def _describe_effect(diagnosis: Diagnosis) -> list[str]:
    effect = diagnosis.effect
    parts = []
    if effect.cosine is not None:
        parts.append(f"cosines differ by up to {effect.cosine:.2g}")
    if effect.score is not None:
        parts.append(f"scores by up to {effect.score:.2g}")
    if effect.top1_changed is not None:
        parts.append(f"top-1 changed for {effect.top1_changed or 'no'} of {len(diagnosis.images)} images")
    return [f"from file to score: {', '.join(parts)}"] if parts else []
