"""The tables of a comparison for a terminal of 100 columns; all its figures are in the Markdown and the report."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from clipworks.cli.terminal import fit_text, measure_width, show_text
from clipworks.report.comparison_tables import say_difference
from clipworks.report.figures import say_bytes, say_ms, say_number, say_share

if TYPE_CHECKING:
    from clipworks.comparison.records import Comparison, Row

WIDTH = 100
_NAME = 28

Lines = list[list[str]]


def format_comparison(found: Comparison) -> str:
    """Lay out accuracy, agreement, speed, start, what is missing, gates and published figures."""
    pictures = found.pictures
    count = f"{pictures.used:,} of {pictures.listed:,}" if pictures.used < pictures.listed else f"{pictures.used:,}"
    head = (
        f"{count} pictures of {pictures.source}, {pictures.with_truth:,} with a known class; {pictures.classes:,} "
        f"classes ({pictures.labels}); rounds of speed: {found.rounds} of {found.repeats}; "
        f"reference: {found.reference or 'none, f32 cannot be had'}"
    )
    parts = [_wrap(("PARTIAL: ended early. " if found.partial else "") + head)]
    parts += [
        part
        for title, names, lines in (
            ("Accuracy and speed (*: on the Pareto front; speed: fastest load of the image tower)", *_sum_up(found)),
            ("Agreement with f32 of the same model (cosines of the pictures' embeddings)", *_agree(found.rows)),
            ("Speed under each load: median (least to most of the rounds); times in ms", *_measure(found.rows)),
            ("Start and memory, each row in a process of its own, nothing compiled before", *_start(found.rows)),
            ("Published by others, not measured here", *_quote(found)),
        )
        if (part := _lay_out(title, names, lines))
    ]
    missing = [
        f"{row.name}: {problem.reason}" + (f" ({problem.hint})" if problem.hint else "")
        for row in found.rows
        for problem in row.problems
    ]
    if missing:
        parts.append("\n".join(["What could not be had, and why:", *(_wrap(line, "  ") for line in missing)]))
    if found.gates:
        kept = [
            f"{'kept  ' if gate.kept else 'MISSED'}  {gate.row}: {gate.gate} {say_number(gate.value, 4)}, "
            f"bound {gate.bound:g}"
            for gate in found.gates
        ]
        parts.append("\n".join(["Gates:", *(_wrap(line, "  ") for line in kept)]))
    return "\n\n".join(parts)


def _sum_up(found: Comparison) -> tuple[list[str], Lines]:
    lines = []
    for row in found.rows:
        if row.granted is None:
            lines.append([row.name, "not to be had"])
            continue
        top = {item.k: say_share(item.share) for item in row.accuracy}
        own = next((item for item in row.differences if item.k == 1), None)
        fastest = max(
            (speed for speed in row.speeds if speed.tower == "image"),
            key=lambda speed: speed.samples_per_s.median,
            default=None,
        )
        ratio = None if fastest is None or fastest.ratio is None else fastest.ratio.median
        lines.append(
            [
                ("* " if row.pareto else "") + row.name,
                row.granted.precision,
                top.get(1, ""),
                top.get(5, ""),
                *(("reference" if row.is_reference else "", "") if own is None else say_difference(own)),
                "" if fastest is None else say_number(fastest.samples_per_s.median),
                "" if ratio is None else f"{ratio:.2f}",
            ]
        )
    return ["row", "granted", "top-1", "top-5", "points (95%)", "p", "pictures/s", "times ref."], lines


def _agree(rows: tuple[Row, ...]) -> tuple[list[str], Lines]:
    lines = [
        [
            row.name,
            f"{own.cosine_min:.6f}",
            f"{own.cosine_p1:.6f}",
            f"{own.cosine_median:.6f}",
            say_share(own.top1.share),
            f"{own.score_change_max:.4f}",
        ]
        for row in rows
        if (own := row.agreement) is not None
    ]
    return ["row", "least", "p1", "median", "same top-1", "largest score change"], lines


def _measure(rows: tuple[Row, ...]) -> tuple[list[str], Lines]:
    speeds = [(row.name, speed) for row in rows for speed in row.speeds]
    percents = [item.percent for item in speeds[0][1].latency][:4] if speeds else []
    lines = []
    for name, speed in speeds:
        rate = speed.samples_per_s
        known = {item.percent: item for item in speed.latency}
        lines.append(
            [
                name,
                speed.tower,
                str(speed.batch_size),
                str(speed.depth),
                f"{say_number(rate.median)} ({say_number(rate.low)} to {say_number(rate.high)})",
                *(say_ms(known[p].us.median) + ("" if known[p].trusted else "†") for p in percents),
            ]
        )
    return ["row", "tower", "batch", "depth", "a second", *(f"p{percent:g}" for percent in percents)], lines


def _start(rows: tuple[Row, ...]) -> tuple[list[str], Lines]:
    lines = []
    for row in rows:
        if row.footprint is not None:
            towers = row.footprint.towers
            cells = [say_number(tower.cold.compile_ms) + " / " + say_ms(tower.cold.first_call_us) for tower in towers]
            size = say_bytes(sum(tower.file_bytes for tower in towers))
            lines.append([row.name, size, *cells, say_number(row.footprint.peak_memory_mib)])
    return ["row", "files MB", "image: compile / 1st call ms", "text: ms", "peak MiB"], lines


def _quote(found: Comparison) -> tuple[list[str], Lines]:
    lines = []
    for row in found.published:
        shares = ["" if share is None else say_share(share) for share in (row.top1, row.top5)]
        rates = [f"{speed.tower} {say_number(speed.samples_per_s)}" for speed in row.speeds]
        lines.append([row.name, *shares, ", ".join(rates), row.source])
    return ["published", "top-1", "top-5", "a second", "source"], lines


def _lay_out(title: str, names: list[str], lines: Lines) -> str:
    """Columns that line up; a line that is shorter has nothing in the rest; what is wider than the page is cut."""
    if not lines:
        return ""
    rows = [[show_text(cell) for cell in row] + [""] * (len(names) - len(row)) for row in [names, *lines]]
    widths = [max(measure_width(row[place]) for row in rows) for place in range(len(names))]
    widths[0] = min(widths[0], _NAME)
    text = [f"{title}:"]
    for row in rows:
        cells = [fit_text(row[0], widths[0])]
        cells += [
            " " * (width - measure_width(cell)) + cell for cell, width in zip(row[1:], widths[1:], strict=True) if width
        ]
        text.append(fit_text("  " + "  ".join(cells), WIDTH).rstrip())
    return "\n".join(text)


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(show_text(text), WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
