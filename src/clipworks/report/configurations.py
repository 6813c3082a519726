"""Names for configurations that stand side by side: what they share is said once, what differs tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clipworks.profiling.profile import Profile
from clipworks.report.figures import say_count


class Facet(NamedTuple):
    """One thing that a configuration consists of: its heading, its value, and the value with a word to it."""

    name: str
    read: Callable[[Profile], str]
    phrase: Callable[[str], str]


def _same(value: str) -> str:
    return value


def _say_load(profile: Profile) -> str:
    return f"{profile.load.rate:g}/s" if profile.load.rate is not None else f"depth {profile.load.depth}"


FACETS = (
    Facet("target", lambda item: item.target, _same),
    Facet("model", lambda item: item.model, _same),
    Facet("runtime", lambda item: item.runtime, _same),
    Facet("device", lambda item: ", ".join(item.devices), _same),
    Facet("precision", lambda item: item.precision, _same),
    Facet("threads", lambda item: str(item.threads or "auto"), lambda value: f"{value} threads"),
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


@dataclass(frozen=True, kw_only=True)
class Lineup:
    """Profiles side by side.

    Attributes:
        items: each with a name of its own.
        shared: what is the same for all, as words.
        facets: those that differ.
    """

    items: tuple[Named, ...]
    shared: tuple[str, ...]
    facets: tuple[Facet, ...]


def line_up(found: Sequence[tuple[str, Profile]]) -> Lineup:
    """Name profiles by what differs among them, then by their files, then by their place.

    Args:
        found: file and profile, at least one.
    """
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


def name_unit(profiles: Sequence[Profile]) -> str:
    """What the profiles' speed is counted in."""
    targets = {profile.target for profile in profiles}
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
