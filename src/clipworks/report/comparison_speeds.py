"""A comparison's speeds, load times and memory, and what others published of theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipworks.comparison.comparison import Row
from clipworks.comparison.figures import Footprint, Repeated, Speed, TowerStart
from clipworks.comparison.published import PublishedRow, PublishedSpeed
from clipworks.report.lineup import make_latency_columns
from clipworks.report.phrases import say_ms, say_number, say_share
from clipworks.report.tables import Table, tabulate

_TOWERS = ("image", "text")
_STARTS: tuple[tuple[str, Callable[[TowerStart], str]], ...] = (
    ("MB", lambda item: say_number(item.file_bytes / 1e6)),
    ("open ms", lambda item: say_number(item.cold.open_ms)),
    ("first call ms", lambda item: say_ms(item.cold.first_call_us)),
)


def _say_repeated(found: Repeated | None, say: Callable[[float], str] = say_number) -> str:
    if found is None:
        return ""
    spread = f" ({say(found.low)} to {say(found.high)})" if found.low < found.high else ""
    return say(found.median) + spread


def tabulate_speeds(rows: list[Row]) -> Table:
    """Speed of every row under every load; those under one load together, so that like stands beside like."""
    found: list[tuple[Row, Speed]] = [(row, speed) for row in rows for speed in row.speeds]
    found.sort(key=lambda item: (item[1].tower, item[1].batch_size, item[1].depth))
    rates = {tower: [speed.samples_per_s.median for _, speed in found if speed.tower == tower] for tower in _TOWERS}
    latencies, doubt = make_latency_columns(found, lambda pair: pair[1].latency)
    return tabulate(
        "Speed: the median of the rounds (the least to the most)",
        found,
        (
            ("row", lambda pair: pair[0].name),
            ("tower", lambda pair: pair[1].tower),
            ("batch", lambda pair: str(pair[1].batch_size)),
            ("depth", lambda pair: str(pair[1].depth)),
            ("samples/s", lambda pair: _say_repeated(pair[1].samples_per_s)),
            ("times the reference", lambda pair: _say_repeated(pair[1].ratio)),
            ("mean ms", lambda pair: _say_repeated(pair[1].mean_us, say_ms)),
            *latencies.items(),
        ),
        bars=("of the fastest", lambda pair: (pair[1].samples_per_s.median / max(rates[pair[1].tower]),)),
        spare=("mean ms", *latencies),
        notes=(doubt,),
    )


def tabulate_footprints(rows: list[Row]) -> Table:
    """What every row takes until it runs."""
    found: list[tuple[Row, Footprint]] = [(row, row.footprint) for row in rows if row.footprint is not None]

    def say_tower(found: Footprint, tower: str, say: Callable[[TowerStart], str]) -> str:
        return "".join(say(item) for item in found.towers if item.tower == tower)

    def say_growth(pair: tuple[Row, Footprint]) -> str:
        before, peak = pair[1].before_memory_mib, pair[1].peak_memory_mib
        return say_number(None if before is None or peak is None else peak - before)

    return tabulate(
        "Size, load time and memory",
        found,
        (
            ("row", lambda pair: pair[0].name),
            ("import ms", lambda pair: say_number(pair[1].towers[0].cold.import_ms) if pair[1].towers else ""),
            *(
                (f"{tower} {what}", lambda pair, tower=tower, say=say: say_tower(pair[1], tower, say))
                for tower in _TOWERS
                for what, say in _STARTS
            ),
            ("peak MiB", lambda pair: say_number(pair[1].peak_memory_mib)),
            ("of runtime and model, MiB", say_growth),
        ),
        notes=(
            "Each in a process of its own, without a compiled cache. Import: of the runtime; open: read and compile "
            "the tower; of runtime and model: the peak less what Python held before the import.",
        ),
    )


def list_slower(rows: Sequence[Row]) -> list[str]:
    """What is slower in a lower precision than in f32 on the same runtime and device, beyond the rounds' spread."""
    exact = {_name_place(row): row for row in rows if row.actual is not None and row.actual.precision == "f32"}
    said = []
    for row in rows:
        base = exact.get(_name_place(row))
        if base is None or base is row:
            continue
        rates = {(item.tower, item.batch_size, item.depth): item.samples_per_s for item in base.speeds}
        for speed in row.speeds:
            own, other = speed.samples_per_s, rates.get((speed.tower, speed.batch_size, speed.depth))
            if other is not None and own.high < other.low:
                load = f"batch {speed.batch_size}, depth {speed.depth}"
                figures = f"{say_number(own.median)} a second, f32 {say_number(other.median)}"
                said.append(f"{row.name}, {speed.tower}, {load}: {figures}")
    return said


def _name_place(row: Row) -> tuple[str, ...] | None:
    actual = row.actual
    return None if actual is None else (row.asked.model, actual.runtime, actual.device)


def tabulate_published(rows: Sequence[PublishedRow]) -> tuple[Table, Table]:
    """What others published: how accurate, and how fast, one row a tower and load."""
    speeds: list[tuple[PublishedRow, PublishedSpeed]] = [(row, speed) for row in rows for speed in row.speeds]
    accuracy = tabulate(
        "Published by others: not measured here",
        rows,
        (
            ("name", lambda row: row.name),
            ("model", lambda row: row.model or ""),
            ("device", lambda row: row.device or ""),
            ("precision", lambda row: row.precision or ""),
            ("top-1", lambda row: say_share(row.top1)),
            ("top-5", lambda row: say_share(row.top5)),
            ("images", lambda row: row.images or ""),
        ),
        notes=tuple(f"{row.name}: {note}." for row in rows for note in (row.source, *row.notes)),
    )
    return accuracy, tabulate(
        "Speeds published by others: not measured here",
        speeds,
        (
            ("name", lambda pair: pair[0].name),
            ("tower", lambda pair: pair[1].tower),
            ("batch", lambda pair: "" if pair[1].batch_size is None else str(pair[1].batch_size)),
            ("in flight", lambda pair: say_number(pair[1].in_flight)),
            ("a second", lambda pair: say_number(pair[1].samples_per_s, 4)),
            ("mean ms", lambda pair: say_ms(pair[1].mean_us)),
        ),
    )
