"""A server under load in words: what it answered and refused, and whether the load was what it should be."""

from __future__ import annotations

from clipworks.profiling.http_load import LATE, HttpProfile
from clipworks.profiling.statistics import Spread
from clipworks.report.document import Document, Section, list_facts


def show_http_profile(profile: HttpProfile) -> Document:
    """What was offered, answered and refused, and how far to trust it."""
    load, machine = profile.load, profile.environment
    loop = f"open loop, {load.rate:g} requests/s" if load.rate else f"closed loop, {max(load.depth, 1)} in flight"
    share = f"{profile.late_share:.1%} of the response time"
    late = f"{profile.late.mean_us / 1000:.2f} ms on average; its median is {share}"
    facts = {
        "server": profile.url,
        "inputs": f"{profile.inputs}; {profile.items} in a request",
        "load": f"{loop}; {profile.offered_per_s:.1f} requests/s were due in {profile.seconds:.1f} s after warm-up",
        "answered": f"{profile.answered_per_s:.1f} requests/s, {profile.answered_per_s * profile.items:.1f} items/s",
        "response time": _say(profile.answered) if profile.answered.count else None,
        "refused": f"{profile.refused_per_s:.1f} requests/s, told after {_say(profile.refused)}"
        if profile.refused.count
        else None,
        "failed": profile.failed and f"{profile.failed}; by status: {profile.statuses}",
        "generator": f"late by {late if profile.answered.count else 'no answer to compare with'}; "
        f"{profile.client_cores:.2f} cores",
        "machine": f"{machine.cpu}, {machine.cores} cores, {machine.system}, load {machine.load_1m}",
    }
    why = (
        f"the generator was late by more than {LATE:.0%} of the response time"
        if profile.answered.count
        else (f"nothing was answered with 200; by status: {profile.statuses}")
    )
    title = "" if profile.counts else f"{why}: this run DOES NOT COUNT"
    return Document(title=title, sections=(Section(items=(list_facts(facts),)),))


def _say(times: Spread) -> str:
    return ", ".join(f"p{item.percent:g} {item.value_us / 1000:.1f} ms" for item in times.percentiles)
