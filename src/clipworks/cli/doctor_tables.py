"""A diagnosis for a terminal: the verdict, the stages, the causes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipworks.cli.terminal import cut_text, fit_text, measure_width, show_text

if TYPE_CHECKING:
    from clipworks.doctor.diagnosis import About, Diagnosis, StageResult
    from clipworks.doctor.figures import Figures

_WIDTH = 100
_MARKS = {"ok": "", "begins": "BEGINS HERE", "follows": "follows", "missing": "not compared"}


def format_diagnosis(diagnosis: Diagnosis) -> str:
    """Lay a diagnosis out in lines of at most 100 columns, but for names that are longer."""
    lines = [*_wrap(describe_verdict(diagnosis)), ""]
    lines += _wrap(f"model      {_describe(diagnosis.subject)}")
    lines += _wrap(f"reference  {_describe(diagnosis.reference)}")
    lines += [f"inputs     {len(diagnosis.images)} images, {len(diagnosis.texts)} texts", ""]
    lines += _lay_out(diagnosis)
    titles = {result.name: result.title for result in diagnosis.stages}
    if diagnosis.causes:
        lines.append("")
    for cause in diagnosis.causes:
        start = f"{titles[cause.stage]}: " if cause.proven else f"{titles[cause.stage]}, usually: "
        lines += _wrap(f"{start}{show_text(cause.text)}", indent="  ")
    lines += ["", *_describe_effect(diagnosis)]
    for drift in diagnosis.drifts:
        lines += _wrap(
            f"{diagnosis.subject.precision} against f32, {drift.branch}: up to {drift.largest:.2g} of a value's length "
            f"at {titles.get(drift.at, drift.at)}; most is added at {titles.get(drift.grows_at, drift.grows_at)} "
            f"({drift.growth:+.2g})"
        )
    lines += [line for note in diagnosis.notes for line in _wrap(f"note: {show_text(note)}")]
    return "\n".join(lines)


def describe_verdict(diagnosis: Diagnosis) -> str:
    """The verdict in one sentence."""
    compared = sum(result.mark != "missing" for result in diagnosis.stages)
    if diagnosis.verdict == "healthy":
        return f"HEALTHY: {compared} of {len(diagnosis.stages)} stages compared, none past its tolerance"
    titles = {result.name: result.title for result in diagnosis.stages}
    begins = [result for result in diagnosis.stages if result.mark == "begins"]
    first = f"begins at {begins[0].title}{_describe_unseen(begins[0], titles)}"
    others = ", ".join(f"{result.title}{_describe_unseen(result, titles)}" for result in begins[1:])
    more = f"; by itself also at {others}" if others else ""
    if diagnosis.verdict == "precision":
        return (
            f"PRECISION LOSS: in f32 nothing differs; with {diagnosis.subject.precision} what is past tolerance "
            f"{first}{more}"
        )
    return f"DIFFERS: it {first}{more}"


def _describe_unseen(result: StageResult, titles: Mapping[str, str]) -> str:
    if not result.unseen:
        return ""
    return f" or before it (not compared: {', '.join(titles[name] for name in result.unseen)})"


def _describe(about: About) -> str:
    kinds = {
        "bundle": "{name}: {runtime} on {device}, {precision}",
        "equations": "{name}: the equations with its own weights, float64",
        "checkpoint": "{name}: the equations with this checkpoint's weights, float64",
        "dump": "{name}: a dump, {precision}",
    }
    return kinds[about.kind].format(
        name=show_text(about.name), runtime=about.runtime, device=about.device, precision=about.precision
    )


def _lay_out(diagnosis: Diagnosis) -> list[str]:
    both = any(result.f32 is not None for result in diagnosis.stages)
    head = ["stage", "difference", *(["in f32"] if both else []), "tolerance", ""]
    rows = [head]
    for result in diagnosis.stages:
        row = [result.title, _format(result, result.figures)]
        row += [_format(result, result.f32)] if both else []
        shown = result.figures is not None
        row += [_number(result.tolerance, result.measure) if shown else "", _MARKS[result.mark]]
        rows.append(row)
    widths = [max(measure_width(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [fit_text(row[0], widths[0])]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    for result in diagnosis.stages:
        if result.mark == "begins":
            place = _describe_place(result, diagnosis)
            lines += ["", *_wrap(f"{result.title}: {place}")] if place else []
    return lines


def _format(result: StageResult, figures: Figures | None) -> str:
    if figures is None:
        return ""
    if figures.judged is None:
        return "inf/nan" if figures.broken else "shape"
    return _number(figures.judged, result.measure)


def _number(value: float, measure: str) -> str:
    if measure == "levels":
        return f"{value:.3g}/255"
    if measure == "tokens":
        return f"{value:.0%}"
    return f"{value:.2g}" if value else "0"


def _describe_place(result: StageResult, diagnosis: Diagnosis) -> str:
    """Where the largest difference is."""
    figures = result.figures if result.precision or result.f32 is None else result.f32
    if figures is None:
        return ""
    said = [figures.note] if figures.note else []
    if figures.where and result.measure != "scale" and (figures.found, figures.expected) != (None, None):
        sample, *place = figures.where
        kind = "text" if result.branch == "text" else "image"
        said.append(f"{kind} {sample + 1}{_describe_axes(result, place)}: {_show(figures.found)} here, ")
        said[-1] += f"{_show(figures.expected)} in the reference"
    if result.measure == "tokens" and figures.where:
        said.append(f"“{_shorten(show_text(diagnosis.texts[figures.where[0]]))}”")
    return "; ".join(said)


def _describe_axes(result: StageResult, place: list[int]) -> str:
    names = {"tokens": ("token",), "values": ("row", "value")}
    if result.measure == "levels" and len(place) == 3:
        return f", row {place[0]}, column {place[1]}, {('red', 'green', 'blue')[place[2] % 3]}"
    labels = names.get(result.measure, ("text",))[-len(place) :] if place else ()
    return "".join(f", {label} {number}" for label, number in zip(labels, place, strict=False))


def _show(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _shorten(text: str) -> str:
    return text if measure_width(text) <= 48 else f"{cut_text(text, 45)}..."


def _describe_effect(diagnosis: Diagnosis) -> list[str]:
    effect = diagnosis.effect
    parts = []
    if effect.cosine is not None:
        parts.append(f"cosines differ by up to {effect.cosine:.2g}")
    if effect.score is not None:
        parts.append(f"scores by up to {effect.score:.2g}")
    if effect.top1_changed is not None:
        changed = f"{effect.top1_changed} of {len(diagnosis.images)}" if effect.top1_changed else "no"
        parts.append(f"{changed} images get another best text")
    return _wrap(f"from file to score: {', '.join(parts)}") if parts else []


def _wrap(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_long_words=False
    ) or [text]
