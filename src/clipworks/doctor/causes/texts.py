"""Causes of differences between token ids."""

from __future__ import annotations

import dataclasses

import numpy as np

from clipworks.doctor.causes.cases import SIDES, Case
from clipworks.doctor.deviation import find_difference
from clipworks.doctor.pipelines import Pipeline
from clipworks.doctor.stages import Array, Trace
from clipworks.errors import BundleError
from clipworks.text.clip_vocabulary import WORD_END, built_in_vocabulary, read_clip_vocabulary
from clipworks.text.tokenizers import open_tokenizer


def explain_cut(stage: str, case: Case) -> list[str]:
    """Whether a text is the same on both sides, cut differently."""
    causes = (_describe_cut(one, other, case) for one, other in zip(*case.sides(stage), strict=True))
    return [cause for cause in causes if cause][:1]


def explain_case(stage: str, case: Case) -> list[str]:
    """Whether one side reads texts as they are that BERT's rules write in lower case, without accents."""
    right = case.reference or case.subject
    if right.text.tokenizer != "wordpiece" or right.text.cleaning != "lower":
        return []
    cased = open_tokenizer(right.vocabulary, dataclasses.replace(right.text, cleaning="none"))
    rows = cased.encode_ragged(case.inputs.texts, truncate=True)

    def describe(trace: Trace) -> str | None:
        same = all(np.array_equal(one, other) for one, other in zip(trace[stage], rows, strict=True))
        return "texts are not written in lower case" if same else None

    return case.contrast(describe, partly=True)


def explain_ids(stage: str, case: Case) -> list[str]:
    """How the first text that differs was read on each side, and whether a vocabulary is not OpenAI's."""
    causes = []
    for one, other in zip(*case.sides(stage), strict=True):
        place = find_difference(one, other)
        if place < min(len(one), len(other)):
            here, there = (_spell(row, place, case.subject) for row in (one, other))
            causes.append(f"what is {here} here is {there} in the reference")
            break
    for side, pipeline in zip(SIDES, (case.subject, case.reference), strict=True):
        causes += [f"{text} {side}" for text in _compare_vocabulary(pipeline)]
    return causes


def _spell(row: Array, place: int, pipeline: Pipeline) -> str:
    """Some tokens from a place on, as text where the vocabulary is known."""
    some = row[place : place + 3]
    if pipeline.text.tokenizer != "clip":
        return " ".join(str(int(number)) for number in some)
    names = {number: token.replace(WORD_END, "") for token, number in built_in_vocabulary().ids.items()}
    return " ".join(repr(names.get(int(number), int(number))) for number in some)


def _describe_cut(one: Array, other: Array, case: Case) -> str | None:
    context, end = case.subject.text.context, case.subject.text.end_id
    if case.subject.sees_padding or end is None or max(len(one), len(other)) < context:
        return None
    if find_difference(one, other) < min(len(one), len(other)) - 1:
        return None
    for side, row, whole in ((SIDES[0], one, other), (SIDES[1], other, one)):
        if end not in row and end in whole:
            return f"a long text is cut without its end token {side}: the last of its ids must be {end}"
    alike = len(one) == len(other)
    return None if alike else f"a long text is cut to {len(one)} tokens here, to {len(other)} in the reference"


def _compare_vocabulary(pipeline: Pipeline | None) -> list[str]:
    if pipeline is None or pipeline.vocabulary is None or pipeline.text.tokenizer != "clip":
        return []
    try:
        own, known = read_clip_vocabulary(pipeline.vocabulary), built_in_vocabulary()
    except BundleError as error:
        return [error.message]
    said = []
    for what, mine, theirs in (("ids", own.ids, known.ids), ("merges", own.ranks, known.ranks)):
        apart = [key for key in {**theirs, **mine} if mine.get(key) != theirs.get(key)]
        if apart:
            said.append(f"{len(apart)} {what} differ from OpenAI's ({apart[0]!r} {_tell(mine, theirs, apart[0])})")
    return [f"the vocabulary in {pipeline.vocabulary.name} is not OpenAI's: {' and '.join(said)}"] if said else []


def _tell(mine: dict[str, int], theirs: dict[str, int], key: str) -> str:
    if key not in mine:
        return "is missing"
    return f"is {mine[key]}, not {theirs[key]}" if key in theirs else "is not one of OpenAI's"
