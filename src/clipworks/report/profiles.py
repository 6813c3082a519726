"""Profiles in a report: throughput, latency, how it was measured, load time and stages, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipworks.profiling.profile import Profile, StageTime
from clipworks.profiling.search import rank_profiles
from clipworks.report.document import Document, Headline, Item, Section
from clipworks.report.lineup import Lineup, Named, doubt_profiles, line_up, make_latency_columns
from clipworks.report.phrases import say_cosine, say_count, say_ms, say_number, say_share
from clipworks.report.profile_plots import plot_profiles
from clipworks.report.tables import Table, tabulate

_STOPS = {"time is up": "NOT stable when time was up"}
_TITLES = {
    "image": "Speed of the image encoder",
    "text": "Speed of the text encoder",
    "pipeline": "Speed of the pipeline",
}


def report_profiles(lineup: Lineup) -> Document:
    """Show profiles of one target side by side."""
    found = lineup.items
    text = [_say_shared(lineup)]
    if any(len(item.profile.runs) > 1 for item in found):
        text.append("Of several repeats the run with the median throughput is shown.")
    items: tuple[Item, ...] = (
        _tabulate_speed(lineup),
        *plot_profiles(lineup),
        _tabulate_trust(found),
        _tabulate_load_time(found),
        tabulate_stages(found),
    )
    return Document(
        headlines=_find_headlines(lineup),
        warnings=doubt_profiles(found),
        sections=(Section(title=_TITLES[found[0].profile.target], text=tuple(text), items=items),),
    )


def show_sweep(profiles: Sequence[Profile], percent: float) -> Document:
    """A row a configuration; the best throughput and the Pareto front against pN stand out."""
    lineup = line_up([("", profile) for profile in profiles])
    _, front = rank_profiles(profiles, percent)
    text = (_say_shared(lineup), f"Pareto: no other has both more throughput and a lower p{percent:g}.")
    return Document(title="Sweep", sections=(Section(text=text, items=(_tabulate_speed(lineup, front),)),))


def _say_shared(lineup: Lineup) -> str:
    return f"{'The same for all' if len(lineup.items) > 1 else 'Measured'}: {', '.join(lineup.shared)}."


def _tabulate_speed(lineup: Lineup, front: Sequence[bool] = ()) -> Table:
    """Throughput and latency of each profile, and of each whether it is on a Pareto front, if that is given."""
    found = lineup.items
    latencies, doubt = make_latency_columns(found, lambda item: item.profile.run.window.response.percentiles)
    best = max(found, key=lambda item: _order(item.profile.samples_per_s()))

    def say_spread(item: Named) -> str:
        rates = sorted(item.profile.samples_per_s(run) for run in item.profile.runs)
        return say_share((rates[-1] - rates[0]) / rates[len(rates) // 2]) if len(rates) > 1 and rates[0] > 0 else ""

    kept = [item.label for item, on_front in zip(found, front, strict=False) if on_front]
    closed = all(item.profile.load.rate is None for item in found)
    due = "At a load in requests/s (open loop) latency is counted from the moment a request was due."
    return tabulate(
        "Throughput and latency",
        found,
        (
            *(() if lineup.facets else (("configuration", _label),)),
            *((facet.name, lambda item, facet=facet: facet.read(item.profile)) for facet in lineup.facets),
            (lineup.unit, lambda item: say_number(item.profile.samples_per_s(), 4)),
            ("spread", say_spread),
            ("mean ms", lambda item: say_ms(item.profile.run.window.response.mean_us)),
            *latencies.items(),
            ("in flight", lambda item: say_number(item.profile.run.window.in_flight)),
            ("Pareto", lambda item: "on the front" if item.label in kept else ""),
        ),
        marked=lambda item: len(found) > 1 and item is best,
        spare=("inputs", "spread", *list(latencies)[:-1]),
        notes=(
            "Bold: the highest throughput." if len(found) > 1 else "",
            doubt,
            "" if closed else due,
        ),
    )


def _label(item: Named) -> str:
    return item.label


def _tabulate_trust(found: Sequence[Named]) -> Table:
    parity = any(item.profile.parity for item in found)
    return tabulate(
        "How it was measured",
        found,
        (
            ("configuration", _label),
            ("requests", lambda item: f"{item.profile.run.window.requests:,}"),
            ("seconds", lambda item: say_number(item.profile.run.window.seconds)),
            ("in flight", lambda item: say_number(item.profile.run.window.in_flight)),
            ("Little's law", lambda item: say_number(item.profile.run.window.little)),
            ("repeats", lambda item: str(len(item.profile.runs))),
            ("ended", lambda item: _STOPS.get(item.profile.run.stop, item.profile.run.stop)),
            ("least cosine", lambda item: say_cosine(one.cosine_min) if (one := item.profile.parity) else ""),
            ("top-1 agreement", lambda item: say_share(one.top1_agreement) if (one := item.profile.parity) else ""),
            ("with", lambda item: one.reference if (one := item.profile.parity) else ""),
            ("times f32", lambda item: say_number(item.profile.times_f32)),
            ("peak MiB", lambda item: say_number(item.profile.peak_memory_mib)),
        ),
        spare=("repeats", "seconds", "requests"),
        notes=(
            "Little's law: requests/s times the mean service time; it equals what was in flight if both are right.",
            "The parity columns compare the embeddings with f32." if parity else "",
        ),
    )


def _tabulate_load_time(found: Sequence[Named]) -> Table:

    def measure(item: Named) -> tuple[float, ...]:
        cold = item.profile.cold
        return cold.import_ms, cold.read_ms or 0.0, cold.compile_ms, cold.first_call_us / 1000

    longest = max(sum(measure(item)) for item in found) or 1.0
    return tabulate(
        "Load time and first call",
        found,
        (
            ("configuration", _label),
            ("import ms", lambda item: say_number(item.profile.cold.import_ms)),
            ("read ms", lambda item: say_number(item.profile.cold.read_ms)),
            ("compile ms", lambda item: say_number(item.profile.cold.compile_ms)),
            ("first call ms", lambda item: say_ms(item.profile.cold.first_call_us)),
            ("in all ms", lambda item: say_number(sum(measure(item)))),
        ),
        bars=("shares", lambda item: tuple(value / longest for value in measure(item))),
        parts=("import", "read", "compile", "first call"),
        notes=("Import is near 0 where the process had the runtime already: in a sweep at all points but the first.",),
    )


def tabulate_stages(found: Sequence[Named]) -> Table:
    """The stages of pipelines; empty for encoders."""
    stages: list[tuple[Named, StageTime]] = [(item, stage) for item in found for stage in item.profile.run.stages]
    return tabulate(
        "Stages of the pipeline",
        stages,
        (
            ("configuration", lambda pair: pair[0].label),
            ("stage", lambda pair: pair[1].name),
            ("mean ms a request", lambda pair: say_ms(pair[1].mean_us)),
            ("share", lambda pair: say_share(pair[1].share)),
        ),
        bars=("of the whole", lambda pair: (pair[1].share,)),
    )


def _find_headlines(lineup: Lineup) -> tuple[Headline, ...]:
    several = len(lineup.items) > 1
    closed = [item for item in lineup.items if item.profile.load.rate is None]
    best = max(closed or lineup.items, key=lambda item: _order(item.profile.samples_per_s()))
    quick = min(lineup.items, key=lambda item: _order(item.profile.run.window.response.mean_us, math.inf))
    latency = quick.profile.run.window.response
    middle = latency.find(50)
    median = "" if middle is None else f"median {say_ms(middle.value_us)} ms, "
    return (
        Headline(
            label=f"Highest throughput, {best.profile.target}",
            value=f"{say_number(best.profile.samples_per_s())} {lineup.unit}",
            detail=best.label if several else ", ".join(lineup.shared[:5]),
        ),
        Headline(
            label=f"Lowest mean latency, {quick.profile.target}",
            value=f"{say_ms(latency.mean_us)} ms",
            detail=f"{quick.label + '; ' if several else ''}{median}{say_count(latency.count, 'request')}",
        ),
    )


def _order(value: float, otherwise: float = -math.inf) -> float:
    return value if math.isfinite(value) else otherwise
