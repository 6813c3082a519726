"""The tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peers import wording
from peers.bounds import find_bound
from peers.figures import GOALS, LESS, Goal, Record, find_fault, find_figure, list_best, measure_ratio, name_unit
from peers.rows import ROWS, Row

SUMMARY = ("a", "b", "c", "d", "d8", "e", "f", "g", "memory", "h")
NEEDS = {"image": "a picture", "d": "a class name", "d8": "a prompt"}
BOUNDS = """\
Operations needed at the least, in 10^9: {needs}. They and the peaks give the limits among the goals: for d the peak of
the precision applied to that arithmetic, for c and g decoding on all cores beside it; for f decoding alone, and for a
a bare start. In brackets stands the ratio to the best peer that a program at the limit would have: where that is below
what is wanted, the goal lies beyond this machine."""
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
    "start_f32_s": "bare start, f32, s",
    "start_bf16_s": "bare start, bf16, s",
    "start_int8_s": "bare start, int8, s",
}


def write_table(heads: Iterable[str], lines: Iterable[Iterable[str]], numbers_from: int) -> str:
    """A Markdown table; columns from one on are set to the right."""
    heads = list(heads)
    rule = ["---" if place < numbers_from else "---:" for place in range(len(heads))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *map(list, lines)])


def write_summary(record: Record, language: int) -> str:
    """All rows and works, and a caption."""
    works = [work for work in SUMMARY if any(find_figure(record, work, row) is not None for row in ROWS)]
    heads = [wording.PEER[language], wording.PRECISION[language], *(wording.COLUMNS[work][language] for work in works)]
    best = {work: find_leaders(record, work) for work in works}
    lines = [
        [f"**{row.label}**" if row.ours else row.label, row.precision]
        + [write_cell(record, work, row, best[work]) for work in works]
        for row in ROWS
        if any(find_figure(record, work, row) is not None for work in works)
    ]
    stamp = max((record["works"][work] for work in record["works"]), key=lambda item: item["date"])
    rows = [found for work in record["works"].values() for found in work["rows"].values()]
    rounds = min(len(found["rounds"]) for found in rows if "rounds" in found)
    machine = stamp["machine"]
    caption = wording.CAPTION[language].format(
        date=stamp["date"], cpu=machine["cpu"], cores=machine["cores"], commit=stamp["commit"], rounds=rounds
    )
    return write_table(heads, lines, 2) + "\n\n" + caption


def write_cell(record: Record, work: str, row: Row, best: float | None) -> str:
    """One figure, with a mark where it may not be compared."""
    figure = find_figure(record, work, row)
    if figure is None:
        return "–"
    shown = show(figure)
    if find_fault(record, work, row) is not None:
        return f"{shown} ✻"
    return f"**{shown}**" if figure == best else shown


def find_leaders(record: Record, work: str) -> float | None:
    """The best figure of all rows that compute the same."""
    figures = [
        figure
        for row in ROWS
        if (figure := find_figure(record, work, row)) is not None and find_fault(record, work, row) is None
    ]
    return (min if work in LESS else max)(figures) if figures else None


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
        ratio = measure_ratio(goal, own, other)
        among = {"longest": ", peers that pad to the longest", "77": ", peers that pad to 77", "": ""}[goal.peers]
        lines.append(
            [
                f"{wording.COLUMNS[goal.work][0].rpartition(',')[0]}{among}",
                goal.precision,
                f"{show(own)} {name_unit(goal.work)} ({ours.precision})",
                f"{show(other)} ({theirs.label}, {theirs.precision})",
                f"{ratio:.2f}x",
                f"{goal.wanted:g}x",
                write_bound(record, goal, other),
                judge(met=ratio >= goal.wanted),
            ]
        )
    lines += write_size_goals(record)
    heads = ["work", "precision", "clipworks, best row", "best peer", "ratio", "wanted", "limit here", ""]
    return write_table(heads, lines, 8)


def write_bound(record: Record, goal: Goal, theirs: float) -> str:
    """What the machine's limits allow, and as a ratio to the best peer."""
    limits = record.get("limits", {})
    bound = find_bound(limits, goal.work, goal.precision, limits["machine"]["cores"]) if limits else None
    return "" if bound is None else f"{show(bound)} ({measure_ratio(goal, bound, theirs):.2f}x)"


def write_size_goals(record: Record) -> list[list[str]]:
    """The goals of what is installed."""
    own = next((find_figure(record, "h", row) for row in ROWS if row.ours), None)
    torch = {row.label: figure for row in ROWS if is_torch(row) and (figure := find_figure(record, "h", row))}
    if own is None or not torch:
        return []
    least = min(torch, key=torch.__getitem__)
    return [
        ["h: installed", "", f"{own:.0f} MB", "", "", "under 400 MB", "", judge(met=own < 400)],
        [
            "h: installed, PyTorch peers",
            "",
            f"{own:.0f} MB",
            f"{torch[least]:.0f} ({least})",
            f"{torch[least] / own:.2f}x",
            "below",
            "",
            judge(met=own < torch[least]),
        ],
    ]


def judge(*, met: bool) -> str:
    """The last column of a goal."""
    return "met" if met else "missed"


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
            f"- {name}, {work}: {fault}."
            for work in ("c", "d", "e", "f", "g", "a")
            if (fault := find_fault(record, work, row)) and find_figure(record, work, row) is not None
        ]
        errors = {
            found["error"]
            for work in record["works"].values()
            if "error" in (found := work["rows"].get(row.key, {})) and found["error"] != "not offered"
        }
        lines += [f"- {name} could not be run: {error}" for error in sorted(errors)]
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
    samples = {
        f"{row.label}, {row.precision}, {work}: {found['items']:,}"
        for work, measured in record["works"].items()
        for row in ROWS
        if (found := measured["rows"].get(row.key, {})).get("items")
        and found["items"] < max(item.get("items", 0) for item in measured["rows"].values())
    }
    if samples:
        lines.append(f"- Slow rows were timed on an even sample, as a rate: {'; '.join(sorted(samples))}.")
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
    own = max((figure for row in ROWS if row.ours and (figure := find_figure(record, "f", row))), default=None)
    both = limits["resizing_images_per_s_a_core"]["value"]
    share = f" Our best row of f has {own / both:.0%} of what Pillow's decoding and resizing reach." if own else ""
    return f"{table}\n\n{BOUNDS.format(needs=said)}{share}"


def write_spread(record: Record) -> str:
    """Every round of every figure."""
    lines = []
    for row in ROWS:
        for work in SUMMARY:
            found = record["works"].get(work, {}).get("rows", {}).get(row.key, {})
            if found.get("rounds"):
                rounds = found["rounds"]
                lines.append(
                    [
                        row.label,
                        row.precision,
                        work,
                        show(min(rounds)),
                        show(max(rounds)),
                        str(len(rounds)),
                        found["commit"],
                    ]
                )
    return write_table(["peer", "precision", "work", "least", "most", "rounds", "commit"], lines, 3)


def write_versions(record: Record) -> str:
    """What was installed."""
    lines = [
        [name, ", ".join(f"{package} {version}" for package, version in found.items())]
        for name, found in record.get("versions", {}).items()
    ]
    return write_table(["environment", "versions"], lines, 2)
