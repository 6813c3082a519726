"""Causes of differences between token ids of a tower that sees its padding: what is done before and behind a text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from clipworks.doctor.causes.cases import Case
from clipworks.doctor.pipelines import Pipeline
from clipworks.doctor.stages import Array
from clipworks.text.tokenizers import Ids, open_tokenizer


def explain_padding(stage: str, case: Case) -> list[str]:
    """Which step each side leaves out or does otherwise; the reference's tokenizer is right, else the subject's."""
    if not case.subject.sees_padding:
        return []
    right, texts = case.reference or case.subject, case.inputs.texts
    rows = right.tokenizer.encode_ragged(texts, truncate=True)

    def describe(found: Sequence[Array]) -> str | None:
        if _is_same(found, list(right.tokenizer.pad(rows))):
            return None
        return next((said for said, made in _list_faults(found, rows, texts, right) if _is_same(found, made)), None)

    return case.contrast(lambda trace: describe(trace[stage]), partly=True)


def _list_faults(
    found: Sequence[Array], rows: Sequence[Ids], texts: Sequence[str], right: Pipeline
) -> Iterator[tuple[str, Sequence[Array]]]:
    spec = right.text
    yield f"texts are not filled up to the context of {spec.context}", rows
    length = len(found[0])
    if max(map(len, rows)) <= length < spec.context:
        said = f"texts are filled up to {length} ids, not to the context of {spec.context}"
        yield said, _fill(rows, length, spec.pad_id)
    for theirs, row in zip(found, rows, strict=True):
        if len(row) < len(theirs):
            pad, end = int(theirs[-1]), int(theirs[len(row) - 1])
            padded = _fill(rows, spec.context, pad)
            yield f"texts are filled up with {pad}, not with {spec.pad_id}", padded
            bare = [each[:-1] for each in rows]
            yield f"texts have no end token, {spec.end_id}", _fill(bare, spec.context, spec.pad_id)
            ended = [np.append(each[:-1], np.int32(end)) for each in rows]
            yield f"texts end with {end}, not with {spec.end_id}", _fill(ended, spec.context, spec.pad_id)
            break
    if spec.tokenizer == "file" and spec.cleaning != "none":
        plain = open_tokenizer(right.vocabulary, dataclasses.replace(spec, cleaning="none"))
        what = "written in lower case" if spec.cleaning == "lower" else f"cleaned as {spec.cleaning} does it"
        yield f"texts are not {what}", list(plain.encode(texts, truncate=True))


def _fill(rows: Sequence[Array], length: int, pad: int) -> list[Array]:
    return [np.pad(row, (0, length - len(row)), constant_values=pad) for row in rows]


def _is_same(found: Sequence[Array], made: Sequence[Array]) -> bool:
    return len(found) == len(made) and all(np.array_equal(one, other) for one, other in zip(found, made, strict=True))
