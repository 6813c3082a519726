"""Open loops: how latency grows with the offered rate, and the highest rate that keeps a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipworks.profiling.profile import Profile
from clipworks.profiling.search import RateSearch, Trial
from clipworks.report.document import Axis, Caution, Document, Guide, Headline, Plot, Section, Series, draw_points, warn
from clipworks.report.lineup import describe, is_wide, make_latency_columns
from clipworks.report.phrases import say_ms, say_number
from clipworks.report.sources import MeasuredSearch
from clipworks.report.tables import Table, tabulate

_MOST_SEARCHES = 6
_UNDECIDED = "undecided: too few samples"


def report_searches(found: Sequence[tuple[str, MeasuredSearch]]) -> Document:
    """Show each search of a file, at least one, with the rates that it tried."""
    shown = found[:_MOST_SEARCHES]
    return Document(
        headlines=tuple(
            Headline(
                label=f"Highest rate with {_say_bound(item.search)}",
                value=_say_rate(item.search),
                detail=f"{describe(item.capacity)}; closed loop "
                f"{say_number(item.capacity.run.window.requests_per_s)}/s",
            )
            for _, item in shown
        ),
        warnings=tuple(caution for name, item in found for caution in _doubt(name, item)),
        sections=tuple(_report_search(name, item.capacity, item.search) for name, item in shown),
    )


def _doubt(name: str, item: MeasuredSearch) -> tuple[Caution, ...]:
    return warn(
        name,
        (item.search.partial, "The search was interrupted: a higher rate may hold."),
        (item.search.best is None and not _is_undecided(item.search), "No rate that was tried keeps the bound."),
        (_is_undecided(item.search), "The search is undecided: too few samples at some rate that was tried."),
        (item.capacity.run.stop == "time is up", "The closed loop was not stable when time was up."),
    )


def show_search(capacity: Profile, search: RateSearch) -> Document:
    """Every rate that was tried, and the highest that keeps the bound."""
    text = (_say_capacity(capacity), _say_best(search))
    title = "PARTIAL: the search was interrupted" if search.partial else "Rate search"
    return Document(title=title, sections=(Section(text=text, items=(_tabulate_trials(search),)),))


def _say_bound(search: RateSearch) -> str:
    return f"p{search.slo.percent:g} within {search.slo.bound_us / 1000:g} ms"


def _say_best(search: RateSearch) -> str:
    if search.best is None and _is_undecided(search):
        return f"Undecided: too few samples to say whether any rate keeps {_say_bound(search)}; measure longer."
    if search.best is None:
        return f"No rate that was tried keeps {_say_bound(search)}."
    broken = f"; at {say_number(search.lowest_failed)} it no longer does" if search.lowest_failed else ""
    return f"Up to {say_number(search.best)} requests/s keep {_say_bound(search)}{broken}."


def _say_rate(search: RateSearch) -> str:
    if search.best is not None:
        return f"{say_number(search.best)} requests/s"
    return "undecided" if _is_undecided(search) else "none"


def _is_undecided(search: RateSearch) -> bool:
    """Whether no rate kept the bound, and one of those tried has too few samples to say that it broke it."""
    return search.best is None and any(_judge(trial, search) == _UNDECIDED for trial in search.trials)


def _say_capacity(capacity: Profile) -> str:
    rate = say_number(capacity.run.window.requests_per_s)
    return f"The closed loop gives {rate} requests/s with {capacity.run.places} in flight."


def _judge(trial: Trial, search: RateSearch) -> str:
    """What a trial says of the bound: kept, broken, overloaded, or undecided for want of samples."""
    found = trial.run.window.response.find(search.slo.percent)
    if trial.kept:
        return "kept"
    if trial.run.overloaded:
        return "overloaded"
    short = found is not None and not found.trusted and found.value_us <= search.slo.bound_us
    return _UNDECIDED if short else "broken"


def _report_search(name: str, capacity: Profile, search: RateSearch) -> Section:
    text = (
        f"{describe(capacity)}, batch {capacity.batch_size}. Poisson arrivals; latency is counted from the moment a "
        "request was due, whether or not the system was free.",
        _say_capacity(capacity),
        _say_best(search),
    )
    items = (_plot_trials(search), _tabulate_trials(search)) if search.trials else ()
    return Section(title=f"Open loop: {_say_bound(search)} ({name})", text=text, items=items)


def _plot_trials(search: RateSearch) -> Plot:
    trials = sorted(search.trials, key=lambda trial: trial.rate)

    def read(trial: Trial, percent: float) -> float:
        found = trial.run.window.response.find(percent)
        return math.nan if found is None else found.value_us / 1000

    def draw(label: str, percent: float, shown: list[Trial], hue: int | None = None) -> Series:
        points = [(trial.rate, read(trial, percent)) for trial in shown]
        return draw_points(label, points, mark="points" if hue else "line", hollow=bool(hue), hue=hue)

    percents = sorted({50.0, search.slo.percent} & {item.percent for item in trials[0].run.window.response.percentiles})
    series = [draw(f"p{percent:g}", percent, trials) for percent in percents]
    failed = [trial for trial in trials if not trial.kept]
    series += [draw("bound not kept", search.slo.percent, failed, 3)] if failed else []
    rules = [Guide(axis="y", value=search.slo.bound_us / 1000, label=f"bound, {search.slo.bound_us / 1000:g} ms")]
    if search.best is not None:
        rules.append(Guide(axis="x", value=search.best, label=f"highest rate kept, {say_number(search.best)}/s"))
    return Plot(
        title="Latency over the offered rate",
        summary="; ".join(
            f"{trial.rate:.1f} requests/s: p{search.slo.percent:g} "
            f"{say_number(read(trial, search.slo.percent))} ms, {_judge(trial, search)}"
            for trial in trials[:20]
        ),
        x=Axis(label="offered, requests/s", low=0),
        y=Axis(label="response time, ms", log=is_wide([y for one in series for y in one.ys])),
        series=tuple(series),
        rules=tuple(rules),
    )


def _tabulate_trials(search: RateSearch) -> Table:
    latencies, doubt = make_latency_columns(search.trials, lambda trial: trial.run.window.response.percentiles)
    return tabulate(
        "Rates that were tried",
        sorted(search.trials, key=lambda trial: trial.rate),
        (
            ("offered/s", lambda trial: say_number(trial.rate, 4)),
            ("answered/s", lambda trial: say_number(trial.run.window.requests_per_s, 4)),
            ("requests", lambda trial: f"{trial.run.window.requests:,}"),
            ("mean queue ms", lambda trial: say_ms(trial.run.window.queue.mean_us)),
            ("mean ms", lambda trial: say_ms(trial.run.window.response.mean_us)),
            *latencies.items(),
            ("bound", lambda trial: _judge(trial, search)),
        ),
        marked=lambda trial: trial.rate == search.best,
        spare=tuple(name for name in latencies if name != f"p{search.slo.percent:g} ms"),
        notes=(doubt,),
    )
