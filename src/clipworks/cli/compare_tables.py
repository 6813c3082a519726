"""The tables of a comparison for a terminal of 100 columns; all its figures are in the Markdown and the report."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from clipworks.cli.terminal import fit_text, measure_width, show_text
from clipworks.report.comparison_lists import list_slower, list_worst, say_found, say_path
from clipworks.report.comparison_plots import find_speed
from clipworks.report.comparison_tables import list_speeds, say_actual, say_difference
from clipworks.report.figures import say_bytes, say_ms, say_number, say_share

if TYPE_CHECKING:
    from clipworks.comparison.comparison import Comparison, Row

WIDTH = 100
_NAME = 28

Lines = list[list[str]]


def format_comparison(found: Comparison) -> str:
    """Lay out accuracy, agreement, speed, start, what is missing, gates and published figures."""
    images = found.images
    count = f"{images.used:,} of {images.listed:,}" if images.used < images.listed else f"{images.used:,}"
    head = (
        f"{count} images of {images.source}, {images.with_truth:,} with a known class; {images.classes:,} "
        f"classes ({images.labels}); rounds of speed: {found.rounds} of {found.repeats}; "
        f"reference: {found.reference or 'none, f32 is not available'}"
    )
    parts = [_wrap(("PARTIAL: ended early. " if found.partial else "") + head)]
    rows = [row for row in found.rows if row.actual is not None]
    names = {row.name: f"{place} {row.name}" for place, row in enumerate(rows, 1)}
    parts += [
        part
        for title, columns, lines in (
            ("Rows (*: on the Pareto front; speed: fastest load of the image tower)", *_sum_up(rows, names)),
            ("Is the difference real? Points of accuracy, 95% intervals (paired), McNemar's p", *_test(rows, names)),
            ("Agreement with f32 of the same model (cosines of the images' embeddings)", *_agree(rows, names)),
            (
                "Speed under each load: median (least to most of the rounds); ms, † of too few requests",
                *_measure(rows, names),
            ),
            (
                "Size, start (ms) and memory, each row in a process of its own, nothing compiled before",
                *_start(rows, names),
            ),
            ("Published by others, not measured here", *_quote(found)),
        )
        if (part := _lay_out(title, columns, lines))
    ]
    moved = [
        f"{names[row.name]}: {say_path(item.path, images.source)}, cosine {item.cosine:.6f}: "
        f"{item.reference_name} {item.reference_score:.3f}, now {item.row_name} {item.row_score:.3f}"
        for row in rows
        for item in list_worst(row)
    ]
    if moved:
        parts.append("\n".join(["Images furthest from the reference:", *(_wrap(line, "  ") for line in moved)]))
    if slower := list_slower(rows):
        parts.append("\n".join(["SLOWER than f32 on the same runtime:", *(_wrap(line, "  ") for line in slower)]))
    missing = [
        f"{row.name}: {problem.reason}" + (f" ({problem.hint})" if problem.hint else "")
        for row in found.rows
        for problem in row.problems
    ]
    if missing:
        parts.append("\n".join(["Not available, and why:", *(_wrap(line, "  ") for line in missing)]))
    if found.gates:
        kept = [
            f"{'kept  ' if gate.kept else 'MISSED'}  {gate.row}: {gate.gate} {say_found(gate)}, bound {gate.bound:g}"
            for gate in found.gates
        ]
        parts.append("\n".join(["Gates:", *(_wrap(line, "  ") for line in kept)]))
    return "\n\n".join(parts)


def _sum_up(rows: list[Row], names: dict[str, str]) -> tuple[list[str], Lines]:
    lines = []
    rates = {row.name: speed.samples_per_s.median for row in rows if (speed := find_speed(row)) is not None}
    bases = {row.asked.model: rates.get(row.name) for row in rows if row.is_reference}
    for row in rows:
        top = {item.k: say_share(item.share) for item in row.accuracy}
        own, base = rates.get(row.name), bases.get(row.asked.model)
        ratio = f"{own / base:.2f}" if own and base else ""
        lines.append(
            [
                ("* " if row.pareto else "  ") + names[row.name],
                say_actual(row.actual),
                top.get(1, ""),
                top.get(5, ""),
                "" if own is None else say_number(own),
                "reference" if row.is_reference else ratio,
            ]
        )
    return ["  row", "in use", "top-1", "top-5", "images/s", "times ref."], lines


def _test(rows: list[Row], names: dict[str, str]) -> tuple[list[str], Lines]:
    lines = []
    for row in rows:
        for reference in dict.fromkeys(item.reference for item in row.differences):
            own = {item.k: say_difference(item) for item in row.differences if item.reference == reference}
            number = names.get(reference, "").partition(" ")[0]
            lines.append([names[row.name], number, *own.get(1, ("", "")), *own.get(5, ("", ""))])
    return ["row", "against", "top-1 points", "p", "top-5 points", "p"], lines


def _agree(rows: list[Row], names: dict[str, str]) -> tuple[list[str], Lines]:
    lines = [
        [
            names[row.name],
            f"{own.cosine_min:.6f}",
            f"{own.cosine_p1:.6f}",
            f"{own.cosine_median:.6f}",
            say_share(own.top1.share),
            f"{own.score_change_max:.4f}",
        ]
        for row in rows
        if (own := row.agreement) is not None
    ]
    return ["row", "least", "p1", "median", "same best class", "largest score change"], lines


def _measure(rows: list[Row], names: dict[str, str]) -> tuple[list[str], Lines]:
    speeds = [(names[row.name], speed) for row, speed in list_speeds(rows)]
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


def _start(rows: list[Row], names: dict[str, str]) -> tuple[list[str], Lines]:
    lines = []
    for row in rows:
        if row.footprint is not None:
            towers = row.footprint.towers
            cells = [f"{say_number(tower.cold.open_ms)} / {say_ms(tower.cold.first_call_us)}" for tower in towers]
            size = say_bytes(sum(tower.file_bytes for tower in towers))
            begin = say_number(towers[0].cold.import_ms)
            lines.append([names[row.name], size, begin, *cells, say_number(row.footprint.peak_memory_mib)])
    return ["row", "MB", "import ms", "image: open / 1st call", "text: open / 1st call", "peak MiB"], lines


def _quote(found: Comparison) -> tuple[list[str], Lines]:
    lines = []
    for row in found.published:
        shares = ["" if share is None else say_share(share) for share in (row.top1, row.top5)]
        lines += [
            [
                row.name,
                *shares,
                speed.tower,
                say_number(speed.in_flight),
                say_number(speed.samples_per_s),
                say_ms(speed.mean_us),
            ]
            for speed in row.speeds
        ] or [[row.name, *shares]]
    return ["published", "top-1", "top-5", "tower", "in flight", "a second", "mean ms"], lines


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
