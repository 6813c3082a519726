"""Profiles side by side: what they share is said once, what differs names them, and what each is read by."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from clipworks.profiling.profile import Profile, Run
from clipworks.profiling.statistics import Percentile, Spread
from clipworks.report.phrases import say_count, say_ms

# Lines that can still be told apart in one plot.
MOST_SERIES = 6
# From this ratio of largest to smallest value on, a linear axis hides one end.
_WIDE = 20.0
Item = TypeVar("Item")
_DOUBTFUL = "†"


class Facet(NamedTuple):
    """One thing that a configuration consists of: its heading, its value, and the value with a word to it."""

    name: str
    read: Callable[[Profile], str]
    phrase: Callable[[str], str]


def _same(value: str) -> str:
    return value


def _say_load(profile: Profile) -> str:
    return f"{profile.load.rate:g}/s" if profile.load.rate is not None else f"depth {profile.load.depth}"


def _say_threads(value: str) -> str:
    return "auto threads" if value == "auto" else say_count(int(value), "thread")


FACETS = (
    Facet("target", lambda item: item.target, _same),
    Facet("model", lambda item: item.model, _same),
    Facet("runtime", lambda item: item.runtime, _same),
    Facet("device", lambda item: ", ".join(item.devices), _same),
    Facet("precision", lambda item: item.precision, _same),
    Facet("threads", lambda item: str(item.threads or "auto"), _say_threads),
    Facet("instances", lambda item: str(item.instances), lambda value: say_count(int(value), "instance")),
    Facet("batch", lambda item: str(item.batch_size), lambda value: f"batch {value}"),
    Facet("load", _say_load, _same),
    Facet("input", lambda item: item.input, lambda value: f"input on the {value}"),
    Facet("inputs", lambda item: item.inputs, _same),
)


@dataclass(frozen=True, kw_only=True)
class Named:
    """A profile with its file and its name among the others."""

    source: str
    label: str
    profile: Profile

    def rate(self, run: Run | None = None) -> float:
        """Samples a second of a run, else of the one to quote."""
        return (run or self.profile.run).window.requests_per_s * self.profile.batch_size


@dataclass(frozen=True, kw_only=True)
class Lineup:
    """Profiles side by side, each with a name of its own: what all share, as words, and what differs."""

    items: tuple[Named, ...]
    shared: tuple[str, ...]
    facets: tuple[Facet, ...]


def line_up(found: Sequence[tuple[str, Profile]]) -> Lineup:
    """Name profiles of some files by what differs among them, then by their files, then by their place."""
    profiles = [profile for _, profile in found]
    differing = [facet for facet in FACETS if len({facet.read(item) for item in profiles}) > 1]
    shared = [facet.phrase(facet.read(profiles[0])) for facet in FACETS if facet not in differing]
    # What a request is made of differs in many words; it is a column, not a name.
    telling = [facet for facet in differing if facet.name != "inputs"]
    labels = [" ".join(facet.phrase(facet.read(item)) for facet in telling) for item in profiles]
    if not telling:
        labels = [source for source, _ in found] if len(found) > 1 else [describe(profiles[0])]
    labels = _tell_apart(labels, [source for source, _ in found])
    labels = _tell_apart(labels, [f"no. {place}" for place in range(1, len(found) + 1)])
    items = tuple(
        Named(source=source, label=label, profile=profile)
        for (source, profile), label in zip(found, labels, strict=True)
    )
    return Lineup(items=items, shared=tuple(shared), facets=tuple(differing))


def describe(profile: Profile) -> str:
    """A configuration in a few words."""
    return f"{profile.model} {profile.target}, {profile.runtime} {', '.join(profile.devices)} {profile.precision}"


def name_unit(items: Sequence[Named]) -> str:
    """What the profiles' speed is counted in."""
    targets = {item.profile.target for item in items}
    if targets <= {"image", "pipeline"}:
        return "images/s"
    return "texts/s" if targets == {"text"} else "samples/s"


def _tell_apart(labels: list[str], others: list[str]) -> list[str]:
    """Add the other name to those that several have."""
    counts = Counter(labels)
    return [
        f"{label} ({other})" if counts[label] > 1 and other != label else label
        for label, other in zip(labels, others, strict=True)
    ]


def find_percentile(latency: Spread, percent: float) -> Percentile | None:
    """The percentile, if it was asked for."""
    return next((item for item in latency.percentiles if item.percent == percent), None)


def latency_columns(
    percents: Sequence[float], read: Callable[[Item], Spread]
) -> list[tuple[str, Callable[[Item], str]]]:
    """Columns of percentiles in ms, marked where too few samples stand behind them; empty where not asked for."""

    def say(item: Item, percent: float) -> str:
        found = find_percentile(read(item), percent)
        return "" if found is None else say_ms(found.value_us) + ("" if found.trusted else _DOUBTFUL)

    return [(f"p{percent:g} ms", functools.partial(say, percent=percent)) for percent in percents]


def explain_doubt(spreads: Sequence[Spread]) -> tuple[str, ...]:
    """A note on the sign that marks percentiles, where one is marked."""
    needs = {item.percent: item.needed for latency in spreads for item in latency.percentiles if not item.trusted}
    if not needs:
        return ()
    said = ", ".join(f"p{percent:g} needs {needed:,}" for percent, needed in sorted(needs.items()))
    return (f"{_DOUBTFUL} too few samples behind it to be trusted: {said}.",)


def say_left_out(shown: int, found: int) -> tuple[str, ...]:
    """A note where there is more than is drawn."""
    return (f"The first {shown} of {found} are drawn; the tables have all.",) if found > shown else ()


def is_wide(values: Sequence[float]) -> bool:
    """Whether values want a logarithmic axis."""
    good = [value for value in values if math.isfinite(value) and value > 0]
    return bool(good) and max(good) > _WIDE * min(good)
