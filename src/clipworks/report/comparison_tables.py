"""Tables of a comparison's rows: accuracy, speed, parity, and what each takes to start."""

from __future__ import annotations

from collections.abc import Callable

from clipworks.comparison.figures import Difference, Repeated
from clipworks.comparison.records import Row
from clipworks.report.document import Column, Table
from clipworks.report.figures import (
    cut_rows,
    drop_empty,
    say_bytes,
    say_cosine,
    say_interval,
    say_ms,
    say_number,
    say_share,
)


def tabulate_rows(rows: list[Row], numbers: dict[str, int]) -> Table:
    """Accuracy of every row, and its difference to the reference."""
    ks = sorted({one.k for row in rows for one in row.accuracy})
    lines = []
    for row in rows:
        measures = {one.k: one for one in row.accuracy}
        cells = [str(numbers[row.name]), row.name, row.model]
        cells += ["reference" if row.is_reference else "", "on the front" if row.pareto else ""]
        for k in ks:
            one = measures.get(k)
            cells.append("" if one is None else f"{say_share(one.share)} ({say_interval(one.low, one.high)})")
        own = next((item for item in row.differences if item.k == 1), None)
        cells += ["", ""] if own is None else list(say_difference(own))
        lines.append(tuple(cells))
    columns = [Column(name="no.", numeric=True), *(Column(name=name) for name in ("row", "model", "role", "Pareto"))]
    columns += [Column(name=f"top-{k} (95%)", numeric=True) for k in ks]
    columns += [Column(name="top-1 difference, points", numeric=True), Column(name="p (McNemar)", numeric=True)]
    table = Table(
        title="Accuracy",
        columns=tuple(columns),
        rows=tuple(lines),
        marked=tuple(place for place, row in enumerate(rows) if row.pareto),
        notes=(
            "The difference is to the reference on the same pictures, in percentage points with its 95% interval "
            "(paired); p is the chance of so uneven a split if there is no difference.",
            "Bold: on the Pareto front of accuracy and speed.",
        ),
    )
    return cut_rows(drop_empty(table))


def say_difference(found: Difference) -> tuple[str, str]:
    """A difference of accuracy in points with its interval, and the p-value."""
    points = f"{found.difference * 100:+.1f} ({found.low * 100:+.1f} to {found.high * 100:+.1f})"
    return points, "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"


def _say_repeated(found: Repeated | None, say: Callable[[float], str] = say_number) -> str:
    if found is None:
        return ""
    return (
        f"{say(found.median)} ({say(found.low)} to {say(found.high)})" if found.low < found.high else say(found.median)
    )


def tabulate_speeds(rows: list[Row], numbers: dict[str, int]) -> Table:
    """Speed of every row under every load."""
    lines, bars = [], []
    most = {
        tower: max((s.samples_per_s.median for row in rows for s in row.speeds if s.tower == tower), default=1.0)
        for tower in ("image", "text")
    }
    percents = sorted({item.percent for row in rows for speed in row.speeds for item in speed.latency})
    for row in rows:
        for speed in row.speeds:
            known = {item.percent: item for item in speed.latency}
            lines.append(
                (
                    str(numbers[row.name]),
                    row.name,
                    speed.tower,
                    str(speed.batch_size),
                    str(speed.depth),
                    _say_repeated(speed.samples_per_s),
                    _say_repeated(speed.ratio),
                    _say_repeated(speed.mean_us, say_ms),
                    *(
                        say_ms(known[percent].us.median) + ("" if known[percent].trusted else "†")
                        if percent in known
                        else ""
                        for percent in percents
                    ),
                    "",
                )
            )
            bars.append((speed.samples_per_s.median / most[speed.tower],))
    names = ("samples/s", "times the reference", "mean ms", *(f"p{percent:g} ms" for percent in percents))
    doubtful = any(not item.trusted for row in rows for speed in row.speeds for item in speed.latency)
    table = Table(
        title="Speed",
        columns=(
            Column(name="no.", numeric=True),
            Column(name="row"),
            Column(name="tower"),
            *(Column(name=name, numeric=True) for name in ("batch", "depth", *names)),
            Column(name="of the fastest"),
        ),
        rows=tuple(lines),
        bars=tuple(bars),
        notes=("† too few samples behind it to be trusted.",) if doubtful else (),
    )
    return cut_rows(table)


def tabulate_parity(rows: list[Row], numbers: dict[str, int]) -> Table:
    """How near every row comes to its reference."""
    lines = [
        (
            str(numbers[row.name]),
            row.name,
            own.reference,
            f"{own.count:,}",
            say_cosine(own.cosine_min),
            say_cosine(own.cosine_p1),
            say_cosine(own.cosine_median),
            say_cosine(own.head_cosine_min),
            say_share(own.top1.share),
            f"{own.top1.total - own.top1.count:,}",
            f"{own.score_change_max:.4f}",
        )
        for row in rows
        if (own := row.agreement) is not None
    ]
    figures = (
        "pictures",
        "least cosine",
        "cosine p1",
        "median cosine",
        "least cosine, texts",
        "same best class",
        "other best class",
        "largest change of a score",
    )
    return cut_rows(
        Table(
            title="Parity: agreement with the reference",
            columns=(
                Column(name="no.", numeric=True),
                Column(name="row"),
                Column(name="reference"),
                *(Column(name=name, numeric=True) for name in figures),
            ),
            rows=tuple(lines),
            notes=("Cosines are between the two embeddings of one picture, or of one class's texts.",),
        )
    )


def tabulate_footprints(rows: list[Row], numbers: dict[str, int]) -> Table:
    """What every row takes to start."""
    lines = []
    for row in rows:
        if row.footprint is None:
            continue
        towers = {item.tower: item for item in row.footprint.towers}
        cells = [str(numbers[row.name]), row.name]
        for tower in ("image", "text"):
            own = towers.get(tower)
            cells += (
                ["", "", ""]
                if own is None
                else [say_bytes(own.file_bytes), say_number(own.cold.compile_ms), say_ms(own.cold.first_call_us)]
            )
        before, peak = row.footprint.before_memory_mib, row.footprint.peak_memory_mib
        lines.append((*cells, say_number(peak), say_number(None if None in (before, peak) else peak - before)))  # type: ignore[operator]  # neither is None
    columns = [Column(name="no.", numeric=True), Column(name="row")]
    for tower in ("image", "text"):
        columns += [Column(name=f"{tower} {what}", numeric=True) for what in ("MB", "compile ms", "first call ms")]
    columns += [Column(name="peak MiB", numeric=True), Column(name="of the model, MiB", numeric=True)]
    return cut_rows(
        drop_empty(
            Table(
                title="Size, start and memory",
                columns=tuple(columns),
                rows=tuple(lines),
                notes=("Each in a process of its own, without a compiled cache; of the model: peak less before.",),
            )
        )
    )
