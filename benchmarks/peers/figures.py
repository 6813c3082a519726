"""From rounds to figures: medians, which rows may be compared, ratios and goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peers.measuring import COLD, SIZES, find_work
from peers.rows import ROWS, Row

Record = dict[str, Any]
LESS = {COLD, SIZES, "memory", "b"}
"""Works whose figure is a time or a size."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured of a row in a work.

    Attributes:
        rounds: one value a round, in the work's unit.
        commits: of this repository that they were taken on.
        items: in a round: photographs, texts or calls; 0 where that does not apply.
    """

    rounds: tuple[float, ...]
    commits: tuple[str, ...]
    items: int = 0

    @property
    def median(self) -> float:
        """The figure itself."""
        return statistics.median(self.rounds)

    @property
    def least(self) -> float:
        """Of the rounds."""
        return min(self.rounds)

    @property
    def most(self) -> float:
        """Of the rounds."""
        return max(self.rounds)


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


def find_figure(record: Record, work: str, row: Row) -> Figure | None:
    """A row's figure in a work, or None; where all rows of a peer run the same code, the rounds of all of them."""
    if work in (SIZES, "memory"):
        found = find_row(record, SIZES, row)
        value = found.get("installed_mb" if work == SIZES else "peak_mib")
        return None if value is None else Figure(rounds=(float(value),), commits=(found["commit"],))
    rows = [other for other in ROWS if other.peer == row.peer] if shares_code(work) else [row]
    found_rows = [found for other in rows if (found := find_row(record, work, other)).get("rounds")]
    if not found_rows:
        return None
    return Figure(
        rounds=tuple(value for found in found_rows for value in found["rounds"]),
        commits=tuple(dict.fromkeys(found["commit"] for found in found_rows)),
        items=found_rows[0].get("items", 0),
    )


def find_row(record: Record, work: str, row: Row) -> Record:
    """What the record has of a row in a work."""
    found: Record = record["works"].get(work, {}).get("rows", {}).get(row.key, {})
    return found


def shares_code(work: str) -> bool:
    """Whether all rows of a peer run the same code in a work."""
    return work not in (COLD, SIZES, "memory") and find_work(work).by_peer


def name_code(work: str, row: Row) -> tuple[str | bool, ...]:
    """What a row shares with others in a work: what is equal here is measured and shown once."""
    if work == SIZES:
        return row.peer, row.optional
    return (row.peer,) if shares_code(work) else (row.key,)


def list_figures(record: Record, work: str) -> list[tuple[Row, Figure]]:
    """All rows that have a figure in a work, best first; one for those that are the same code or files."""
    found = [(row, figure) for row in ROWS if (figure := find_figure(record, work, row)) is not None]
    found = list({name_code(work, row): (row, figure) for row, figure in reversed(found)}.values())[::-1]
    return sorted(found, key=lambda item: item[1].median, reverse=work not in LESS)


def find_best(record: Record, work: str) -> Row | None:
    """The row that is better than every other in every round; None where rounds overlap.

    None too where it or the next has one round only, whose spread nobody knows. A size on disk is counted, not timed.
    """
    rows = [(row, figure) for row, figure in list_figures(record, work) if find_fault(record, work, row) is None]
    if len(rows) < 2 or (work != SIZES and any(len(figure.rounds) < 2 for _, figure in rows[:2])):
        return None
    (best, figure), *others = rows
    if work in LESS:
        clear = figure.most < min(other.least for _, other in others)
    else:
        clear = figure.least > max(other.most for _, other in others)
    return best if clear else None


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


def list_best(record: Record, goal: Goal) -> tuple[tuple[Row, Figure], tuple[Row, Figure]] | None:
    """Our best row and the best of the peers that compute the same, each with its figure; None where one is missing."""
    found = [
        (row, figure)
        for row, figure in list_figures(record, goal.work)
        if goal.precision in ("any", row.precision) and find_fault(record, goal.work, row) is None
    ]
    ours = next((item for item in found if item[0].ours), None)
    theirs = next((item for item in found if not item[0].ours and goal.among(item[0])), None)
    return (ours, theirs) if ours and theirs else None


def measure_ratio(goal: Goal, ours: Figure, theirs: Figure) -> tuple[float, float, float]:
    """How many times better ours is: of the medians, and the least and the most that the rounds allow."""
    if goal.work in LESS:
        ours, theirs = theirs, ours
    return ours.median / theirs.median, ours.least / theirs.most, ours.most / theirs.least


def name_unit(work: str) -> str:
    """The unit of a work's figure."""
    return {COLD: "s", SIZES: "MB", "memory": "MiB"}.get(work) or find_work(work).unit
