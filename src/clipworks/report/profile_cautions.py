"""What must be known before profiles are trusted, in words: partial, unstable, overloaded, too few samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipworks.profiling.profile import SLOWER, Profile
from clipworks.report.document import Caution, warn
from clipworks.report.lineup import Named
from clipworks.report.phrases import join_words


def doubt_profiles(found: Sequence[Named]) -> tuple[Caution, ...]:
    """Cautions about profiles; what holds for several of one file is said once."""
    cautions: tuple[Caution, ...] = ()
    for source in dict.fromkeys(item.source for item in found):
        own = [item for item in found if item.source == source]
        checks = (
            ("was interrupted: its figures are partial", [item for item in own if item.profile.partial]),
            ("was overloaded: its latencies say how long it was measured", [item for item in own if _overloaded(item)]),
            ("was not stable when time was up", [item for item in own if item.profile.run.stop == "time is up"]),
            ("was slower than f32 on the same runtime", [item for item in own if _is_slower(item.profile)]),
        )
        short = _list_short([item.profile for item in own])
        off = [item for item in own if _little_gap(item.profile) > 0.1]
        gap = "kept more than a tenth fewer or more requests in flight than asked for."
        cautions += warn(
            source,
            *((where, f"{_name(where, own)}{words}.") for words, where in checks if where),
            (short, f"Too few samples to trust {join_words(short)}."),
            *((True, _name(off, own) + gap) for _ in off[:1]),
        )
    return cautions


def _list_short(profiles: Sequence[Profile]) -> list[str]:
    """The percentiles with too few samples, each with how many it needs."""
    counts: dict[float, tuple[int, int]] = {}
    for profile in profiles:
        for item in profile.run.window.response.percentiles:
            if not item.trusted:
                counts[item.percent] = (counts.get(item.percent, (0, 0))[0] + 1, item.needed)
    several = len(profiles) > 1
    return [
        f"p{percent:g}" + (f" in {count} of {len(profiles)}" if several else "") + f" ({needed:,} needed)"
        for percent, (count, needed) in sorted(counts.items())
    ]


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
