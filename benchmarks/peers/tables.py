"""The tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from peers import wording
from peers.bounds import find_bound
from peers.figures import (
    GOALS,
    LESS,
    Figure,
    Goal,
    Record,
    find_best,
    find_fault,
    find_figure,
    find_row,
    list_best,
    list_figures,
    measure_ratio,
    name_unit,
    shares_code,
)
from peers.measuring import SIZES
from peers.rows import ROWS, Row

WORKS = ("a", "b", "c", "g", "d", "d8", "e", "f", "memory", "h")
FRONT = ("a", "b", "c", "d8", "memory", "h")
FRONT_ROWS = (
    "clipworks-f32",
    "fastembed-f32",
    "transformers-f32",
    "open_clip-f32",
    "clipworks-bf16",
    "sentence_transformers-bf16",
)
"""What the front page shows of it: clipworks and the peers that come nearest or are used most, like beside like."""
NEEDS = {"image": "an image", "d": "a class name", "d8": "a prompt"}
BOUNDS = """\
Operations needed at the least, in 10^9: {needs}. They and the peaks give the limits among the goals: for text
throughput the peak of the precision applied to that arithmetic, for images decoding on all cores beside it; for
preprocessing decoding alone, and for the time to first result a least start. In brackets stands the ratio to the best
peer that a program at the limit would have: where that is below what is wanted, the goal lies beyond this machine."""
LIMIT_NAMES = {
    "f32_peak": "multiply-adds, f32, GFLOP/s",
    "bf16_peak": "multiply-adds, bf16, GFLOP/s",
    "int8_peak": "multiply-adds, int8, G operations/s",
    "f32_gflops": "matrix product, f32, GFLOP/s",
    "bf16_gflops": "matrix product, bf16, GFLOP/s",
    "int8_gflops": "matrix product, int8, G operations/s",
    "memory_gb_per_s": "memory, GB/s",
    "decoding_images_per_s_a_core": "decoding the photographs alone, images/s a core",
    "resizing_images_per_s_a_core": "decoding and resizing them, images/s a core",
    "start_f32_s": "least start, f32, s",
    "start_bf16_s": "least start, bf16, s",
    "start_int8_s": "least start, int8, s",
}


def write_table(heads: Iterable[str], lines: Iterable[Iterable[str]], numbers_from: int) -> str:
    """A Markdown table; columns from one on are set to the right."""
    heads = list(heads)
    rule = ["---" if place < numbers_from else "---:" for place in range(len(heads))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *map(list, lines)])


def write_front(record: Record, language: int) -> str:
    """The front page's table: a few rows and works, each with its spread, and a caption with rounds and commits."""
    rows = [row for row in ROWS if row.key in FRONT_ROWS]
    rows.sort(key=lambda row: FRONT_ROWS.index(row.key))
    heads = [wording.PEER[language], wording.PRECISION[language], *(wording.COLUMNS[work][language] for work in FRONT)]
    lines = [
        [f"**{row.label}**" if row.ours else row.label, row.precision]
        + [write_cell(record, work, row) for work in FRONT]
        for row in rows
    ]
    (machine,) = {(stamp["machine"]["cpu"], stamp["machine"]["cores"]) for stamp in record["works"].values()}
    caption = wording.CAPTION[language].format(
        machine=machine[0],
        cores=machine[1],
        date=" / ".join(sorted({stamp["date"] for stamp in record["works"].values()})),
        rounds=write_rounds(record, rows, language),
    )
    return write_table(heads, lines, 2) + "\n\n" + caption


def write_rounds(record: Record, rows: list[Row], language: int) -> str:
    """Which of the front page's columns were taken on which commit, and of how many rounds."""
    between, after, comma = wording.JOINTS[language]
    works: dict[str, list[str]] = {}
    for work in FRONT:
        figures = [figure for row in rows if (figure := find_figure(record, work, row)) is not None]
        counts = sorted({len(figure.rounds) for figure in figures})
        count = "–".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        name = re.split("[,，]", wording.COLUMNS[work][language])[0]
        for commit in dict.fromkeys(commit for figure in figures for commit in figure.commits):
            works.setdefault(commit, []).append(wording.ROUNDS[language].format(work=name, count=count))
    return between.join(f"{commit}{after}{comma.join(said)}" for commit, said in works.items())


def write_cell(record: Record, work: str, row: Row) -> str:
    """A figure with its spread, and a mark where it may not be compared."""
    figure = find_figure(record, work, row)
    if figure is None:
        return "–"
    mark = " ✻" if find_fault(record, work, row) is not None else ""
    spread = f"<br>({write_spread(figure)})" if len(figure.rounds) > 1 else ""
    return f"{show(figure.median)}{spread}{mark}"


def write_spread(figure: Figure) -> str:
    """The least and the most of the rounds."""
    return f"{show(figure.least)}–{show(figure.most)}" if len(figure.rounds) > 1 else ""


def write_work(record: Record, work: str) -> str:
    """All rows of one work, best first, each with its own spread, rounds, items and commit."""
    best = find_best(record, work)
    whole = max((figure.items for _, figure in list_figures(record, work)), default=0)
    lines = []
    for row, figure in list_figures(record, work):
        fault = find_fault(record, work, row)
        shown = show(figure.median)
        lines.append(
            [
                f"**{row.label}**" if row.ours else row.label,
                "any" if work == SIZES or shares_code(work) else row.precision,
                f"{shown} ✻" if fault is not None else f"**{shown}**" if row == best else shown,
                write_spread(figure),
                str(len(figure.rounds)),
                *([f"{figure.items:,}"] if whole > 1 else []),
                ", ".join(figure.commits),
            ]
        )
    unit = wording.COLUMNS[work][0].rpartition(", ")[2]
    heads = ["library", "precision", unit, "least–most", "rounds", *(["items a round"] if whole > 1 else []), "commit"]
    return write_table(heads, lines, 2)


def show(figure: float) -> str:
    """Three digits that count."""
    if figure >= 1000:
        return f"{float(f'{figure:.3g}'):,.0f}"
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"


def write_goals(record: Record) -> str:
    """Each goal: ours, the best peer, the ratio, and whether it is met."""
    lines = []
    for goal in GOALS:
        found = list_best(record, goal)
        if found is None:
            continue
        (ours, own), (theirs, other) = found
        ratio, least, most = measure_ratio(goal, own, other)
        known = min(len(own.rounds), len(other.rounds)) > 1
        among = {"longest": ", peers that pad to the longest", "77": ", peers that pad to 77", "": ""}[goal.peers]
        lines.append(
            [
                f"{wording.COLUMNS[goal.work][0].rpartition(',')[0]}{among}",
                goal.precision,
                f"{show(own.median)} {name_unit(goal.work)}"
                + ("" if shares_code(goal.work) else f" ({ours.precision})"),
                f"{show(other.median)} ({theirs.label}, {theirs.precision})",
                f"{ratio:.2f}x",
                f"{least:.2f}–{most:.2f}x" if known else "one round",
                f"{goal.wanted:g}x",
                write_bound(record, goal, other.median),
                judge(least if known else ratio, most if known else ratio, goal.wanted),
            ]
        )
    lines += write_size_goals(record)
    heads = ["work", "precision", "clipworks, best row", "best peer", "ratio", "spread", "wanted", "limit here", ""]
    return write_table(heads, lines, 9)


def write_bound(record: Record, goal: Goal, theirs: float) -> str:
    """What the machine's limits allow, and as a ratio to the best peer."""
    limits = record.get("limits", {})
    bound = find_bound(limits, goal.work, goal.precision, limits["machine"]["cores"]) if limits else None
    if bound is None:
        return ""
    return f"{show(bound)} ({theirs / bound if goal.work in LESS else bound / theirs:.2f}x)"


def write_size_goals(record: Record) -> list[list[str]]:
    """The goals of what is installed."""
    sizes = list_figures(record, SIZES)
    own = next((figure.median for row in ROWS if row.ours and (figure := find_figure(record, SIZES, row))), None)
    torch = next(((row, figure.median) for row, figure in sizes if is_torch(row)), None)
    if own is None or torch is None:
        return []
    row, least = torch
    shown = f"{own:.0f} MB"
    return [
        ["install size", "", shown, "", "", "", "under 400 MB", "", judge(400 / own, 400 / own, 1)],
        [
            "install size, peers with PyTorch",
            "",
            shown,
            f"{show(least)} ({row.label})",
            f"{least / own:.2f}x",
            "",
            "below",
            "",
            judge(least / own, least / own, 1),
        ],
    ]


def judge(least: float, most: float, wanted: float) -> str:
    """The last column of a goal, by the least and the most that its ratio may be."""
    return "met" if least >= wanted else "missed" if most < wanted else "within the spread"


def is_torch(row: Row) -> bool:
    """Whether a peer needs PyTorch."""
    from peers.rows import ENVIRONMENTS

    return any(package.startswith("torch==") for package in ENVIRONMENTS[row.peer].packages)


def write_notes(record: Record) -> str:
    """Rows that are not compared, crops, errors, and samples, each with its reason."""
    lines: list[str] = []
    for row in ROWS:
        name = f"{row.label}, {row.precision}"
        lines += [
            f"- {name}, {wording.COLUMNS[work][0].rpartition(', ')[0]}: {fault}."
            for work in ("c", "d", "e", "f", "g", "a")
            if (fault := find_fault(record, work, row)) and find_figure(record, work, row) is not None
        ]
        errors = {
            found["error"]
            for work in record["works"]
            if "error" in (found := find_row(record, work, row)) and found["error"] != "not offered"
        }
        lines += [f"- {name} could not be run in every work: {error}." for error in sorted(errors)]
    floored = [
        row.label
        for row in ROWS
        if row.precision == "f32" and record.get("agreement", {}).get("c", {}).get(row.key, {}).get("same") == "floored"
    ]
    if floored:
        lines.append(
            f"- {', '.join(dict.fromkeys(floored))}: the offset of the crop is floored, where OpenAI's code rounds it: "
            "another pixel row or column where what is left over is odd. The work is the same, so they are compared."
        )
    return "\n".join(dict.fromkeys(lines))


def write_limits(record: Record) -> str:
    """What the machine allows."""
    limits: dict[str, Any] = record.get("limits", {})
    lines = [[LIMIT_NAMES[key], show(limits[key]["value"]), limits[key]["by"]] for key in LIMIT_NAMES if key in limits]
    if not lines:
        return "Not measured yet."
    table, needs = write_table(["limit", "measured", "by"], lines, 3), limits.get("needs")
    if not needs:
        return table
    said = ", ".join(f"{needs[key] / 1e9:.3g} for {what}" for key, what in NEEDS.items())
    own = max((figure.median for row in ROWS if row.ours and (figure := find_figure(record, "f", row))), default=None)
    both = limits["resizing_images_per_s_a_core"]["value"]
    share = f" Preprocessing here has {own / both:.0%} of what Pillow's decoding and resizing reach." if own else ""
    return f"{table}\n\n{BOUNDS.format(needs=said)}{share}"


def write_versions(record: Record) -> str:
    """What was installed."""
    lines = [
        [name, ", ".join(f"{package} {version}" for package, version in found.items())]
        for name, found in record.get("versions", {}).items()
    ]
    return write_table(["environment", "versions"], lines, 2)
