"""From rounds to figures: medians, which rows may be compared, ratios and goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from peers.measuring import COLD, SIZES, find_work
from peers.rows import ROWS, Row

Record = dict[str, Any]
LESS = {COLD, SIZES, "memory", "b"}
"""Works whose figure is a time or a size."""

COLD_DIFFERENCE = {"f32": 0.01, "bf16": 0.1, "f16": 0.1, "int8": 0.3}
"""The most that a score of the first match may differ from the reference's."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is wanted of a work: a ratio to the best of some peers.

    Attributes:
        work: letter.
        precision: which rows of ours and of theirs: one precision, or ``any``.
        wanted: the least ratio.
        among: which peers.
        peers: the same in words.
    """

    work: str
    precision: str
    wanted: float
    among: Callable[[Row], bool] = lambda _: True
    peers: str = ""


def pads_to_longest(row: Row) -> bool:
    """Whether a peer pads to the longest of a batch."""
    return row.padding == "longest"


def pads_to_77(row: Row) -> bool:
    """Whether a peer pads to 77."""
    return row.padding == "77"


GOALS = (
    *(Goal(work="a", precision=kind, wanted=3) for kind in ("f32", "bf16", "any")),
    *(Goal(work="b", precision=kind, wanted=1.5) for kind in ("f32", "bf16", "any")),
    Goal(work="c", precision="f32", wanted=1.3),
    Goal(work="c", precision="any", wanted=4),
    *(
        Goal(work=work, precision=kind, wanted=wanted, among=among, peers=peers)
        for work in ("d", "d8")
        for kind in ("f32", "bf16", "any")
        for wanted, among, peers in ((6, pads_to_longest, "longest"), (15, pads_to_77, "77"))
    ),
    Goal(work="e", precision="any", wanted=2),
    Goal(work="f", precision="any", wanted=1.3),
    Goal(work="g", precision="f32", wanted=1.3),
    Goal(work="g", precision="any", wanted=4),
)


def find_figure(record: Record, work: str, row: Row) -> float | None:
    """A row's figure in a work: the median of its rounds, or None."""
    found = record["works"].get(SIZES if work == "memory" else work, {}).get("rows", {}).get(row.key, {})
    if work in (SIZES, "memory"):
        value = found.get("installed_mb" if work == SIZES else "peak_mib")
        return None if value is None else float(value)
    return statistics.median(found["rounds"]) if found.get("rounds") else None


def find_fault(record: Record, work: str, row: Row) -> str | None:
    """Why a row's figure may not be compared with others', or None."""
    if work in (SIZES, "memory"):
        return None
    if work == COLD:
        found = record["works"].get(COLD, {}).get("rows", {}).get(row.key, {})
        difference = found.get("score_difference")
        if difference is not None and difference > COLD_DIFFERENCE[row.precision]:
            return f"its scores differ by {difference:.2g}"
    judged = record.get("agreement", {})
    parts = {COLD: ("c", "d"), "b": ("c", "d"), "d8": ("d",)}.get(work, (work,))
    for part in parts:
        found = judged.get(part, {}).get(row.key, {})
        if found.get("error") == "not offered":
            continue
        if "error" in found:
            return str(found["error"])
        if found.get("same") is None:
            return explain_difference(part, found)
    return None


def explain_difference(work: str, judged: Record) -> str:
    """One clause on what differs."""
    if not judged:
        return "not compared with the reference"
    what = {"c": "image embeddings", "d": "text embeddings"}
    if work in what:
        return f"{what[work]} with cosines down to {judged['cosine_min']:.3f}"
    if work == "e":
        return f"{judged['equal']:.1%} of the strings get the reference's ids"
    if work == "f":
        return f"{judged['equal']:.2%} of the values are the reference's; off by {judged['largest']:.0f}/255 at most"
    return f"the best class is the reference's for {judged['top1']:.0%} of the photographs"


def list_best(record: Record, goal: Goal) -> tuple[tuple[Row, float], tuple[Row, float]] | None:
    """Our best row and the best of the peers that compute the same, each with its figure; None where one is missing."""

    def pick(rows: Iterator[Row]) -> tuple[Row, float] | None:
        found = [
            (row, figure)
            for row in rows
            if goal.precision in ("any", row.precision)
            and (figure := find_figure(record, goal.work, row)) is not None
            and find_fault(record, goal.work, row) is None
        ]
        side = min if goal.work in LESS else max
        return side(found, key=lambda item: item[1]) if found else None

    ours = pick(row for row in ROWS if row.ours)
    theirs = pick(row for row in ROWS if not row.ours and goal.among(row))
    return (ours, theirs) if ours and theirs else None


def measure_ratio(goal: Goal, ours: float, theirs: float) -> float:
    """How many times better ours is."""
    return theirs / ours if goal.work in LESS else ours / theirs


def name_unit(work: str) -> str:
    """The unit of a work's figure."""
    return {COLD: "s", SIZES: "MB", "memory": "MiB"}.get(work) or find_work(work).unit
