"""Open loops in a report: how latency grows with the offered rate, and the highest rate that keeps a bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipworks.profiling.profile import Run
from clipworks.profiling.search import RateSearch, Trial
from clipworks.report.configurations import describe
from clipworks.report.document import Axis, Column, Headline, Part, Plot, Rule, Section, Series, Table
from clipworks.report.figures import cut_rows, say_ms, say_number
from clipworks.report.latencies import is_wide
from clipworks.report.profiles import explain_doubt, find_percentile, say_percentile
from clipworks.report.sources import SearchFile

_MOST_SEARCHES = 6


def report_searches(found: Sequence[SearchFile]) -> Part:
    """Show each search with the rates that it tried.

    Args:
        found: at least one.
    """
    sections = tuple(_report_search(item) for item in found[:_MOST_SEARCHES])
    headlines = tuple(
        Headline(
            label=f"Highest rate with p{item.search.slo.percent:g} within {item.search.slo.bound_us / 1000:g} ms",
            value="none" if item.search.best is None else f"{say_number(item.search.best)} requests/s",
            detail=f"{describe(item.capacity)}; closed loop {say_number(item.capacity.run.window.requests_per_s)}/s",
        )
        for item in found[:_MOST_SEARCHES]
    )
    return Part(headlines=headlines, sections=sections)


def judge(trial: Trial, search: RateSearch) -> str:
    """What a trial says of the bound: kept, broken, overloaded, or undecided for want of samples."""
    found = find_percentile(trial.run.window.response, search.slo.percent)
    if trial.kept:
        return "kept"
    if trial.run.overload is not None and trial.run.overload.overloaded:
        return "overloaded"
    short = found is not None and not found.trusted and found.value_us <= search.slo.bound_us
    return "undecided: too few samples" if short else "broken"


def _report_search(item: SearchFile) -> Section:
    search = item.search
    bound = f"p{search.slo.percent:g} within {search.slo.bound_us / 1000:g} ms"
    trials = sorted(search.trials, key=lambda trial: trial.rate)
    closed = item.capacity.run
    text = [
        f"{describe(item.capacity)}, batch {item.capacity.batch_size}. Poisson arrivals; latency is counted from the "
        "moment a request was due, whether or not the system was free.",
        f"The closed loop gives {say_number(closed.window.requests_per_s)} requests/s with {closed.places} in flight.",
    ]
    if search.best is None:
        text.append(f"No rate that was tried keeps {bound}.")
    else:
        broken = f"; at {say_number(search.lowest_failed)} it no longer does" if search.lowest_failed else ""
        text.append(f"Up to {say_number(search.best)} requests/s keep {bound}{broken}.")
    items = (_plot_trials(search, trials), _tabulate_trials(search, trials)) if trials else ()
    return Section(title=f"Open loop: {bound} ({item.name})", text=tuple(text), items=items)


def _plot_trials(search: RateSearch, trials: list[Trial]) -> Plot:
    percents = sorted({50.0, search.slo.percent} & {item.percent for item in trials[0].run.window.response.percentiles})
    series = [
        Series(
            label=f"p{percent:g}",
            xs=tuple(trial.rate for trial in trials),
            ys=tuple(_value(trial.run, percent) / 1000 for trial in trials),
        )
        for percent in percents
    ]
    failed = [trial for trial in trials if not trial.kept]
    if failed:
        series.append(
            Series(
                label="bound not kept",
                xs=tuple(trial.rate for trial in failed),
                ys=tuple(_value(trial.run, search.slo.percent) / 1000 for trial in failed),
                mark="points",
                hollow=True,
                hue=3,
            )
        )
    rules = [Rule(axis="y", value=search.slo.bound_us / 1000, label=f"bound, {search.slo.bound_us / 1000:g} ms")]
    if search.best is not None:
        rules.append(Rule(axis="x", value=search.best, label=f"highest rate kept, {say_number(search.best)}/s"))
    return Plot(
        title="Latency over the offered rate",
        summary="; ".join(
            f"{trial.rate:.1f} requests/s: p{search.slo.percent:g} "
            f"{say_ms(_value(trial.run, search.slo.percent))} ms, {judge(trial, search)}"
            for trial in trials[:20]
        ),
        x=Axis(label="offered, requests/s", low=0),
        y=Axis(
            label="response time, ms",
            log=is_wide(np.array([y for one in series for y in one.ys])),
        ),
        series=tuple(series),
        rules=tuple(rules),
    )


def _tabulate_trials(search: RateSearch, trials: list[Trial]) -> Table:
    percents = [item.percent for item in trials[0].run.window.response.percentiles]
    rows = []
    for trial in trials:
        window = trial.run.window
        known = [find_percentile(window.response, percent) for percent in percents]
        rows.append(
            (
                say_number(trial.rate, 4),
                say_number(window.requests_per_s, 4),
                f"{window.requests:,}",
                say_ms(window.queue.mean_us),
                say_ms(window.response.mean_us),
                *("" if value is None else say_percentile(value) for value in known),
                judge(trial, search),
            )
        )
    return cut_rows(
        Table(
            title="Rates that were tried",
            columns=(
                *(
                    Column(name=name, numeric=True)
                    for name in ("offered/s", "answered/s", "requests", "mean queue ms", "mean ms")
                ),
                *(Column(name=f"p{percent:g} ms", numeric=True) for percent in percents),
                Column(name="bound"),
            ),
            rows=tuple(rows),
            marked=tuple(place for place, trial in enumerate(trials) if trial.rate == search.best),
            notes=explain_doubt([trial.run.window.response for trial in trials]),
        )
    )


def _value(run: Run, percent: float) -> float:
    found = find_percentile(run.window.response, percent)
    return float("nan") if found is None else found.value_us
