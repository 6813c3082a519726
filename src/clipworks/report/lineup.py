"""Profiles side by side: what they share is said once, what differs names them, and what their reader must know."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from clipworks.profiling.profile import SLOWER, Profile
from clipworks.profiling.statistics import Percentile
from clipworks.report.document import Caution, warn
from clipworks.report.phrases import join_words, say_count, say_ms

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
    phrase: Callable[[str], str] = str


def _say_load(profile: Profile) -> str:
    return f"{profile.load.rate:g}/s" if profile.load.rate is not None else f"depth {profile.load.depth}"


def _say_threads(value: str) -> str:
    return "auto threads" if value == "auto" else say_count(int(value), "thread")


FACETS = (
    Facet("target", lambda item: item.target),
    Facet("model", lambda item: item.model),
    Facet("runtime", lambda item: item.runtime),
    Facet("device", lambda item: ", ".join(item.devices)),
    Facet("precision", lambda item: item.precision),
    Facet("threads", lambda item: str(item.threads or "auto"), _say_threads),
    Facet("instances", lambda item: str(item.instances), lambda value: say_count(int(value), "instance")),
    Facet("batch", lambda item: str(item.batch_size), lambda value: f"batch {value}"),
    Facet("load", _say_load),
    Facet("input", lambda item: item.input, lambda value: f"input on the {value}"),
    Facet("inputs", lambda item: item.inputs),
)


@dataclass(frozen=True, kw_only=True)
class Named:
    """A profile with its file and its name among the others."""

    source: str
    label: str
    profile: Profile


@dataclass(frozen=True, kw_only=True)
class Lineup:
    """Profiles side by side, each with a name of its own: what all share, as words, and what differs."""

    items: tuple[Named, ...]
    shared: tuple[str, ...]
    facets: tuple[Facet, ...]
    unit: str  # what their speed is counted in


def line_up(found: Sequence[tuple[str, Profile]]) -> Lineup:
    """Name profiles of one target by what differs among them, then by their files, then by their place."""
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
    unit = "texts/s" if profiles[0].target == "text" else "images/s"
    return Lineup(items=items, shared=tuple(shared), facets=tuple(differing), unit=unit)


def describe(profile: Profile) -> str:
    """A configuration in a few words."""
    return f"{profile.model} {profile.target}, {profile.runtime} {', '.join(profile.devices)} {profile.precision}"


def _tell_apart(labels: list[str], others: list[str]) -> list[str]:
    """Add the other name to those that several have."""
    counts = Counter(labels)
    return [
        f"{label} ({other})" if counts[label] > 1 and other != label else label
        for label, other in zip(labels, others, strict=True)
    ]


def make_latency_columns(
    items: Sequence[Item], read: Callable[[Item], Sequence[Percentile]]
) -> tuple[dict[str, Callable[[Item], str]], str]:
    """Columns of percentiles in ms, marked where too few samples stand behind them, and a note where one is marked."""
    found = [percentile for item in items for percentile in read(item)]
    needs = {item.percent: item.needed for item in found if not item.trusted}
    said = ", ".join(f"p{percent:g} needs {needed:,}" for percent, needed in sorted(needs.items()))

    def say(item: Item, percent: float) -> str:
        own = (one for one in read(item) if one.percent == percent)
        return "".join(say_ms(one.value_us) + ("" if one.trusted else _DOUBTFUL) for one in own)

    percents = sorted({item.percent for item in found})
    columns = {f"p{percent:g} ms": functools.partial(say, percent=percent) for percent in percents}
    return {**columns}, f"{_DOUBTFUL} too few samples behind it to be trusted: {said}." if needs else ""


def doubt_profiles(found: Sequence[Named]) -> tuple[Caution, ...]:
    """Cautions about profiles; what holds for several of one file is said once."""
    cautions: tuple[Caution, ...] = ()
    for source in dict.fromkeys(item.source for item in found):
        own = [item for item in found if item.source == source]
        doubts = [(words, [item for item in own if holds(item.profile)]) for words, holds in _DOUBTS]
        *said, gap = [(where, f"{_name(where, own)}{words}.") for words, where in doubts]
        short = join_words(_list_short([item.profile for item in own]))
        cautions += warn(source, *said, (short, f"Too few samples to trust {short}."), gap)
    return cautions


def _little_gap(profile: Profile) -> float:
    places = profile.run.places
    return abs(profile.run.window.little - places) / places if profile.load.rate is None else 0.0


_DOUBTS: tuple[tuple[str, Callable[[Profile], bool]], ...] = (
    ("was interrupted: its figures are partial", lambda one: one.partial),
    ("was overloaded: its latencies say how long it was measured", lambda one: one.run.overloaded),
    ("was not stable when time was up", lambda one: one.run.stop == "time is up"),
    ("was slower than f32 on the same runtime", lambda one: (one.times_f32 or SLOWER) < SLOWER),
    # NaN is no gap.
    (
        "kept more than a tenth fewer or more requests in flight than asked for",
        lambda one: 0.1 < _little_gap(one) < math.inf,
    ),
)


def _list_short(profiles: Sequence[Profile]) -> list[str]:
    """The percentiles with too few samples, each with how many it needs."""
    needs = [item for one in profiles for item in one.run.window.response.percentiles if not item.trusted]
    counts = Counter(item.percent for item in needs)
    several = len(profiles) > 1
    return [
        f"p{percent:g}" + (f" in {counts[percent]} of {len(profiles)}" if several else "") + f" ({needed:,} needed)"
        for percent, needed in sorted({item.percent: item.needed for item in needs}.items())
    ]


def _name(where: Sequence[Named], own: Sequence[Named]) -> str:
    if len(own) == 1:
        return "The measurement "
    if len(where) > 4:
        return f"{len(where)} of {len(own)} measurements: each "
    return join_words([item.label for item in where]) + (": each " if len(where) > 1 else " ")


def say_left_out(shown: int, found: int) -> tuple[str, ...]:
    """A note where there is more than is drawn."""
    return (f"The first {shown} of {found} are drawn; the tables have all.",) if found > shown else ()


def is_wide(values: Sequence[float]) -> bool:
    """Whether values want a logarithmic axis."""
    good = [value for value in values if math.isfinite(value) and value > 0]
    return bool(good) and max(good) > _WIDE * min(good)
