"""Profiles in a report: throughput, latency, how it was measured, cold start and stages, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipworks.profiling.profile import Run
from clipworks.profiling.statistics import Percentile, Spread
from clipworks.report.configurations import Lineup, Named, name_unit
from clipworks.report.document import Column, Headline, Part, Plot, Section, Table
from clipworks.report.figures import (
    cut_rows,
    drop_empty,
    say_cosine,
    say_count,
    say_ms,
    say_number,
    say_share,
)
from clipworks.report.latencies import plot_latencies
from clipworks.report.sweeps import plot_open_loops, plot_sweeps

_STOPS = {
    "stable": "stable",
    "overloaded": "overloaded",
    "time is up": "NOT stable when time was up",
    "count reached": "count reached",
    "interrupted": "interrupted",
}
_DOUBTFUL = "†"


_TITLES = {"image": "Speed of the image tower", "text": "Speed of the text tower", "pipeline": "Speed of the pipeline"}


def report_profiles(lineup: Lineup) -> Part:
    """Show profiles of one target side by side.

    Args:
        lineup: the profiles.
    """
    found = lineup.items
    unit = name_unit([item.profile for item in lineup.items])
    items: list[Table | Plot] = [_tabulate_speed(lineup, unit)]
    items += plot_sweeps(lineup, unit)
    items += plot_latencies(lineup)
    items += plot_open_loops([item.profile for item in found])
    items += [_tabulate_trust(lineup), _tabulate_cold(lineup)]
    stages = _tabulate_stages(lineup)
    items += [] if stages is None else [stages]
    text = [f"{'The same for all' if len(found) > 1 else 'Measured'}: {', '.join(lineup.shared)}."]
    if any(len(item.profile.runs) > 1 for item in lineup.items):
        text.append("Of several repeats the run with the median throughput is shown.")
    return Part(
        headlines=_find_headlines(lineup, unit),
        sections=(Section(title=_TITLES[found[0].profile.target], text=tuple(text), items=tuple(items)),),
    )


def say_percentile(item: Percentile) -> str:
    """A percentile in ms, marked where too few samples stand behind it."""
    return say_ms(item.value_us) + ("" if item.trusted else _DOUBTFUL)


def find_percentile(latency: Spread, percent: float) -> Percentile | None:
    """The percentile, if it was asked for."""
    return next((item for item in latency.percentiles if item.percent == percent), None)


def explain_doubt(spreads: Sequence[Spread]) -> tuple[str, ...]:
    """A note on the sign that marks percentiles, where one is marked."""
    needs = {item.percent: item.needed for latency in spreads for item in latency.percentiles if not item.trusted}
    if not needs:
        return ()
    said = ", ".join(f"p{percent:g} needs {needed:,}" for percent, needed in sorted(needs.items()))
    return (f"{_DOUBTFUL} too few samples behind it to be trusted: {said}.",)


def _rate(item: Named, run: Run | None = None) -> float:
    return (run or item.profile.run).window.requests_per_s * item.profile.batch_size


def _tabulate_speed(lineup: Lineup, unit: str) -> Table:
    percents = sorted({percent for item in lineup.items for percent in item.profile.load.percentiles})
    columns = [Column(name="configuration")] if not lineup.facets else []
    columns += [
        Column(name=facet.name, numeric=facet.name in ("batch", "instances", "threads")) for facet in lineup.facets
    ]
    columns += [Column(name=unit, numeric=True), Column(name="spread", numeric=True)]
    columns += [Column(name=name, numeric=True) for name in ("mean ms", *(f"p{percent:g} ms" for percent in percents))]
    rows = []
    for item in lineup.items:
        window = item.profile.run.window
        rates = sorted(_rate(item, run) for run in item.profile.runs)
        row = [facet.read(item.profile) for facet in lineup.facets] or [item.label]
        row += [
            say_number(_rate(item), 4),
            say_share((rates[-1] - rates[0]) / rates[len(rates) // 2]) if len(rates) > 1 and rates[0] > 0 else "",
            say_ms(window.response.mean_us),
        ]
        known = [find_percentile(window.response, percent) for percent in percents]
        rows.append((*row, *("" if value is None else say_percentile(value) for value in known)))
    best = max(range(len(rows)), key=lambda place: _order(_rate(lineup.items[place])))
    table = Table(
        title="Throughput and latency",
        columns=tuple(columns),
        rows=tuple(rows),
        marked=(best,) if len(rows) > 1 else (),
        notes=(
            *(("Bold: the highest throughput.",) if len(rows) > 1 else ()),
            *explain_doubt([item.profile.run.window.response for item in lineup.items]),
            *(
                ("At a load in requests/s (open loop) latency is counted from the moment a request was due.",)
                if any(item.profile.load.rate is not None for item in lineup.items)
                else ()
            ),
        ),
    )
    return cut_rows(drop_empty(table))


def _tabulate_trust(lineup: Lineup) -> Table:
    names = ("requests", "seconds", "in flight", "Little's law", "repeats")
    rows = []
    for item in lineup.items:
        run, parity = item.profile.run, item.profile.parity
        window = run.window
        rows.append(
            (
                item.label,
                f"{window.requests:,}",
                say_number(window.seconds),
                say_number(window.in_flight),
                say_number(window.little),
                str(len(item.profile.runs)),
                _STOPS[run.stop],
                "" if parity is None else say_cosine(parity.cosine_min),
                "" if parity is None else say_share(parity.top1_agreement),
                "" if parity is None else parity.reference,
                say_number(item.profile.peak_memory_mib),
            )
        )
    table = Table(
        title="How it was measured",
        columns=(
            Column(name="configuration"),
            *(Column(name=name, numeric=True) for name in names),
            Column(name="ended"),
            Column(name="least cosine", numeric=True),
            Column(name="top-1 agreement", numeric=True),
            Column(name="with"),
            Column(name="peak MiB", numeric=True),
        ),
        rows=tuple(rows),
        notes=(
            "Little's law: requests/s times the mean service time; it equals what was in flight if both are right.",
            *(("The parity columns compare the embeddings with f32.",) if any(row[7] for row in rows) else ()),
        ),
    )
    return cut_rows(drop_empty(table))


def _tabulate_cold(lineup: Lineup) -> Table:
    """What each configuration takes before its first answer."""
    found = [item.profile.cold for item in lineup.items]
    parts = [(cold.import_ms, cold.read_ms or 0.0, cold.compile_ms, cold.first_call_us / 1000) for cold in found]
    longest = max(map(sum, parts)) or 1.0
    table = Table(
        title="Cold start",
        columns=(
            Column(name="configuration"),
            *(
                Column(name=name, numeric=True)
                for name in ("import ms", "read ms", "compile ms", "first call ms", "in all ms")
            ),
            Column(name="shares"),
        ),
        rows=tuple(
            (
                item.label,
                say_number(cold.import_ms),
                say_number(cold.read_ms),
                say_number(cold.compile_ms),
                say_ms(cold.first_call_us),
                say_number(sum(part)),
                "",
            )
            for item, cold, part in zip(lineup.items, found, parts, strict=True)
        ),
        bars=tuple(tuple(value / longest for value in part) for part in parts),
        parts=("import", "read", "compile", "first call"),
        notes=("Import is near 0 where the process had it already, as at all but the first point of a sweep.",),
    )
    return cut_rows(table)


def _tabulate_stages(lineup: Lineup) -> Table | None:
    rows, bars = [], []
    for item in lineup.items:
        for stage in item.profile.run.stages:
            rows.append((item.label, stage.name, say_ms(stage.mean_us), say_share(stage.share), ""))
            bars.append((stage.share,))
    if not rows:
        return None
    return cut_rows(
        Table(
            title="Stages of the pipeline",
            columns=(
                Column(name="configuration"),
                Column(name="stage"),
                Column(name="mean ms a request", numeric=True),
                Column(name="share", numeric=True),
                Column(name="of the whole"),
            ),
            rows=tuple(rows),
            bars=tuple(bars),
        )
    )


def _find_headlines(lineup: Lineup, unit: str) -> tuple[Headline, ...]:
    closed = [item for item in lineup.items if item.profile.load.rate is None]
    best = max(closed or lineup.items, key=lambda item: _order(_rate(item)))
    where = best.label if len(lineup.items) > 1 else ", ".join(lineup.shared[:5])
    found = [
        Headline(
            label=f"Highest throughput, {best.profile.target}", value=f"{say_number(_rate(best))} {unit}", detail=where
        )
    ]
    quick = min(lineup.items, key=lambda item: _order(item.profile.run.window.response.mean_us, math.inf))
    latency = quick.profile.run.window.response
    middle = find_percentile(latency, 50)
    detail = f"{quick.label}; " if len(lineup.items) > 1 else ""
    found.append(
        Headline(
            label=f"Lowest mean latency, {quick.profile.target}",
            value=f"{say_ms(latency.mean_us)} ms",
            detail=f"{detail}{'' if middle is None else f'median {say_ms(middle.value_us)} ms, '}"
            f"{say_count(latency.count, 'request')}",
        )
    )
    return tuple(found)


def _order(value: float, otherwise: float = -math.inf) -> float:
    return value if math.isfinite(value) else otherwise
