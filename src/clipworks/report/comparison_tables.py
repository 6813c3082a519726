"""Tables of a comparison's rows: accuracy, speed, parity, and what each takes to start."""

from __future__ import annotations

from collections.abc import Callable

from clipworks.comparison.comparison import Actual, Row
from clipworks.comparison.figures import Difference, Repeated, Speed
from clipworks.report.document import Column, Table
from clipworks.report.figures import (
    cut_rows,
    drop_empty,
    say_bytes,
    say_cosine,
    say_count,
    say_interval,
    say_ms,
    say_number,
    say_share,
)


def tabulate_rows(rows: list[Row], numbers: dict[str, int]) -> Table:
    """Every row: what was in use, and its accuracy."""
    ks = sorted({one.k for row in rows for one in row.accuracy})
    lines = []
    for row in rows:
        measures = {one.k: one for one in row.accuracy}
        cells = [str(numbers[row.name]), row.name, row.model, say_actual(row.actual)]
        cells += ["reference" if row.is_reference else "", "on the front" if row.pareto else ""]
        for k in ks:
            one = measures.get(k)
            cells.append("" if one is None else f"{say_share(one.share)} ({say_interval(one.low, one.high)})")
        lines.append(tuple(cells))
    names = ("row", "model", "in use", "role", "Pareto")
    columns = [Column(name="no.", numeric=True), *(Column(name=name) for name in names)]
    columns += [Column(name=f"top-{k} (95%)", numeric=True) for k in ks]
    table = Table(
        title="Rows and their accuracy",
        columns=tuple(columns),
        rows=tuple(lines),
        marked=tuple(place for place, row in enumerate(rows) if row.pareto),
        notes=(
            "Bold: on the Pareto front: no other row is better in accuracy and as good in speed, or the other way "
            "round. The front goes by the figures as they stand; the next table says which differences are real.",
        ),
    )
    return cut_rows(drop_empty(table))


def say_actual(actual: Actual | None) -> str:
    """What the runtime says that it runs on."""
    if actual is None:
        return ""
    threads = "" if actual.threads is None else f", {say_count(actual.threads, 'thread')}"
    return f"{actual.device} {actual.precision}{threads}"


def tabulate_differences(rows: list[Row], numbers: dict[str, int]) -> Table:
    """Accuracy of every row against its reference, and another model's against the first one's."""
    lines = [
        (
            str(numbers[row.name]),
            row.name,
            f"{numbers.get(item.reference, '')} {item.reference}",
            f"top-{item.k}",
            *say_difference(item),
            f"{item.only_row:,}",
            f"{item.only_reference:,}",
        )
        for row in rows
        for item in row.differences
    ]
    return cut_rows(
        Table(
            title="Is the difference real?",
            columns=(
                Column(name="no.", numeric=True),
                Column(name="row"),
                Column(name="against"),
                Column(name="accuracy"),
                *(
                    Column(name=name, numeric=True)
                    for name in ("points (95%)", "p (McNemar)", "right here only", "right there only")
                ),
            ),
            rows=tuple(lines),
            notes=(
                "On the same images, in percentage points with the 95% interval for paired shares. p is the chance "
                "of so uneven a split of the images that only one of the two has right, if there is no difference: "
                "a small one, as below 0.05, says that there is one.",
            ),
        )
    )


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


def list_speeds(rows: list[Row]) -> list[tuple[Row, Speed]]:
    """Every speed with its row, those under one load together, so that like stands beside like."""
    found = [(row, speed) for row in rows for speed in row.speeds]
    return sorted(found, key=lambda item: (item[1].tower, item[1].batch_size, item[1].depth))


def tabulate_speeds(rows: list[Row], numbers: dict[str, int]) -> Table:
    """Speed of every row under every load."""
    lines, bars = [], []
    most = {
        tower: max((s.samples_per_s.median for row in rows for s in row.speeds if s.tower == tower), default=1.0)
        for tower in ("image", "text")
    }
    percents = sorted({item.percent for row in rows for speed in row.speeds for item in speed.latency})
    for row, speed in list_speeds(rows):
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
        "images",
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
            notes=("Cosines are between the two embeddings of one image, or of one class's texts.",),
        )
    )


def tabulate_footprints(rows: list[Row], numbers: dict[str, int]) -> Table:
    """What every row takes to start."""
    lines = []
    for row in rows:
        if row.footprint is None:
            continue
        towers = {item.tower: item for item in row.footprint.towers}
        first = next(iter(row.footprint.towers), None)
        cells = [str(numbers[row.name]), row.name, "" if first is None else say_number(first.cold.import_ms)]
        for tower in ("image", "text"):
            own = towers.get(tower)
            cells += (
                ["", "", ""]
                if own is None
                else [say_bytes(own.file_bytes), say_number(own.cold.open_ms), say_ms(own.cold.first_call_us)]
            )
        before, peak = row.footprint.before_memory_mib, row.footprint.peak_memory_mib
        lines.append((*cells, say_number(peak), say_number(None if None in (before, peak) else peak - before)))  # type: ignore[operator]  # neither is None
    columns = [Column(name="no.", numeric=True), Column(name="row"), Column(name="import ms", numeric=True)]
    for tower in ("image", "text"):
        columns += [Column(name=f"{tower} {what}", numeric=True) for what in ("MB", "open ms", "first call ms")]
    columns += [Column(name="peak MiB", numeric=True), Column(name="of runtime and model, MiB", numeric=True)]
    return cut_rows(
        drop_empty(
            Table(
                title="Size, start and memory",
                columns=tuple(columns),
                rows=tuple(lines),
                notes=(
                    "Each in a process of its own, without a compiled cache. Import: of the runtime; open: read and "
                    "compile the tower; of runtime and model: the peak less what Python held before the import.",
                ),
            )
        )
    )
