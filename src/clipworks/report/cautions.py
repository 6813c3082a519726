"""What must be known before figures are trusted, in words: partial, unstable, overloaded, too few samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from clipworks.comparison.comparison import Comparison
from clipworks.profiling.profile import SLOWER, Profile
from clipworks.report.classes import Evaluated
from clipworks.report.comparison_lists import list_slower
from clipworks.report.configurations import Named
from clipworks.report.document import Caution
from clipworks.report.figures import join_words, say_count
from clipworks.report.machines import Setting
from clipworks.report.sources import SearchFile

_MOST = 40
# A machine with more than this share of its cores busy before the run was not quiet.
_BUSY = 0.5


def doubt_profiles(found: Sequence[Named]) -> list[Caution]:
    """Cautions about profiles; what holds for several of one file is said once."""
    cautions = []
    for source in dict.fromkeys(item.source for item in found):
        own = [item for item in found if item.source == source]
        checks = (
            ("was interrupted: its figures are partial", [item for item in own if item.profile.partial]),
            ("was overloaded: its latencies say how long it was measured", [item for item in own if _overloaded(item)]),
            ("was not stable when time was up", [item for item in own if item.profile.run.stop == "time is up"]),
            ("was slower than f32 on the same runtime", [item for item in own if _is_slower(item.profile)]),
        )
        for words, where in checks:
            if where:
                cautions.append(Caution(source=source, text=_name(where, own) + words + "."))
        cautions += _doubt_percentiles(source, [item.profile for item in own])
        if off := [item for item in own if _little_gap(item.profile) > 0.1]:
            cautions.append(
                Caution(
                    source=source,
                    text=_name(off, own) + "kept more than a tenth fewer or more requests in flight than asked for.",
                )
            )
    return cautions


def doubt_searches(found: Sequence[SearchFile]) -> list[Caution]:
    """Cautions about rate searches."""
    cautions = []
    for item in found:
        if item.search.partial:
            cautions.append(Caution(source=item.name, text="The search was interrupted: a higher rate may hold."))
        if item.search.best is None:
            cautions.append(Caution(source=item.name, text="No rate that was tried keeps the bound."))
        if item.capacity.run.stop == "time is up":
            cautions.append(Caution(source=item.name, text="The closed loop was not stable when time was up."))
    return cautions


def doubt_evaluations(found: Sequence[Evaluated]) -> list[Caution]:
    """Cautions about results files."""
    cautions = []
    for item in found:
        if item.total is not None:
            cautions.append(
                Caution(
                    source=item.name,
                    text=f"Unfinished: {item.images:,} of the {item.total:,} images of its run; of those only.",
                )
            )
        if item.errors:
            how = "left out" if item.evaluation and item.evaluation.errors_as == "skip" else "counted as wrong"
            how = how if item.evaluation else "not counted"
            cautions.append(
                Caution(source=item.name, text=f"{say_count(item.errors, 'image')} could not be read: {how}.")
            )
        if item.evaluation is None:
            cautions.append(Caution(source=item.name, text="No image's class is known: accuracy cannot be told."))
        elif item.evaluation.without_truth:
            cautions.append(
                Caution(
                    source=item.name,
                    text=f"{say_count(item.evaluation.without_truth, 'image')} left out: nothing tells the class.",
                )
            )
    sets = {item.settings.get("source_sha256") for item in found if item.settings.get("source_sha256")}
    if len(sets) > 1:
        cautions.append(Caution(source="", text="The results files are over different images: do not compare them."))
    return cautions


def doubt_comparison(name: str, found: Comparison) -> list[Caution]:
    """Cautions about a comparison."""
    cautions = []
    if found.partial:
        cautions.append(Caution(source=name, text="The comparison was ended early: its figures are partial."))
    if found.rounds < found.repeats:
        cautions.append(Caution(source=name, text=f"{found.rounds} of {found.repeats} rounds are there for every row."))
    refused = [row.name for row in found.rows if row.actual is None]
    if refused:
        cautions.append(
            Caution(source=name, text=f"{say_count(len(refused), 'combination')} was not available; see the reasons.")
        )
    failed = [row.name for row in found.rows if row.actual is not None and row.problems]
    if failed:
        cautions.append(Caution(source=name, text=f"Figures are missing for {join_words(failed[:8])}."))
    missed = [gate for gate in found.gates if not gate.kept]
    if missed:
        words = join_words([f"{gate.row}: {gate.gate}" for gate in missed[:8]])
        cautions.append(Caution(source=name, text=f"{say_count(len(missed), 'gate')} missed ({words})."))
    if found.images.used < found.images.listed:
        cautions.append(
            Caution(source=name, text=f"{found.images.used:,} of the {found.images.listed:,} images were used.")
        )
    if found.images.errors:
        cautions.append(
            Caution(source=name, text=f"{say_count(found.images.errors, 'image')} could not be read: wrong.")
        )
    cautions += [Caution(source=name, text=f"Slower than f32: {text}.") for text in list_slower(found.rows)]
    unstable = {
        row.name for row in found.rows for speed in row.speeds for run in speed.runs if run.stop == "time is up"
    }
    if unstable:
        cautions.append(Caution(source=name, text=f"Not stable when time was up: {join_words(sorted(unstable)[:8])}."))
    return cautions


def doubt_machines(found: Sequence[Setting]) -> list[Caution]:
    """Cautions about machines: busy ones, and more than one."""
    cautions = []
    if len({item.cpu for item in found if item.cpu}) > 1:
        cautions.append(
            Caution(source="", text="The files come from machines with different processors: speeds do not compare.")
        )
    busy: dict[str, float] = {}
    for item in found:
        if item.load_1m is not None and item.cores and item.load_1m > _BUSY * item.cores:
            busy[item.source] = max(busy.get(item.source, 0.0), item.load_1m / item.cores)
    if busy:
        least, most = (f"{value:.1f}" for value in (min(busy.values()), max(busy.values())))
        loads = least if least == most else f"{least} to {most}"
        cautions.append(
            Caution(source="", text=f"The machine was busy before {_list(busy)}: load average {loads} for each core.")
        )
    return cautions


def limit(found: Sequence[Caution]) -> tuple[Caution, ...]:
    """At most so many that they are read; how many more there are is one of them."""
    if len(found) <= _MOST:
        return tuple(found)
    return (*found[: _MOST - 1], Caution(source="", text=f"{len(found) - _MOST + 1:,} more warnings are left out."))


def _doubt_percentiles(source: str, profiles: Sequence[Profile]) -> list[Caution]:
    counts: dict[float, tuple[int, int]] = {}
    for profile in profiles:
        for item in profile.run.window.response.percentiles:
            if not item.trusted:
                counts[item.percent] = (counts.get(item.percent, (0, 0))[0] + 1, item.needed)
    if not counts:
        return []
    said = join_words(
        [
            f"p{percent:g}" + (f" in {count} of {len(profiles)}" if len(profiles) > 1 else "") + f" ({needed:,} needed)"
            for percent, (count, needed) in sorted(counts.items())
        ]
    )
    return [Caution(source=source, text=f"Too few samples to trust {said}.")]


def _list(files: Iterable[str], most: int = 4) -> str:
    names = list(files)
    if len(names) <= most + 1:
        return join_words(names)
    return join_words([*names[:most], f"{len(names) - most} more files"])


def _overloaded(item: Named) -> bool:
    overload = item.profile.run.overload
    return overload is not None and overload.overloaded


def _is_slower(profile: Profile) -> bool:
    return profile.times_f32 is not None and profile.times_f32 < SLOWER


def _little_gap(profile: Profile) -> float:
    if profile.load.rate is not None:
        return 0.0
    gap = abs(profile.run.window.little - profile.run.places) / profile.run.places
    return gap if math.isfinite(gap) else 0.0


def _name(where: Sequence[Named], own: Sequence[Named]) -> str:
    if len(own) == 1:
        return "The measurement "
    if len(where) > 4:
        return f"{len(where)} of {len(own)} measurements: each "
    return join_words([item.label for item in where]) + ": each " if len(where) > 1 else f"{where[0].label} "
