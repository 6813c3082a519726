"""One profile in words, ours or the vendor's: what is in use, how it was measured, and how far to trust it."""

from __future__ import annotations

import math

from clipworks.profiling.profile import SLOWER, Cold, Profile, Run
from clipworks.profiling.statistics import Spread
from clipworks.report.document import Document, Section, list_facts
from clipworks.report.lineup import line_up
from clipworks.report.phrases import say_count
from clipworks.report.profiles import tabulate_stages

_STOPS = {
    "stable": "stable: the last three windows' rates agree within {tolerance}",
    "overloaded": "the queue grew all the while",
    "time is up": "NOT stable: time was up before three windows agreed within {tolerance}{missing}",
    "count reached": "as many requests as asked for",
    "interrupted": "interrupted",
}


def show_profile(profile: Profile) -> Document:
    """What is in use, how it was measured and how far to trust it."""
    run, machine, parity = profile.run, profile.environment, profile.parity
    threads = f"{profile.threads} CPU threads each" if profile.threads else "CPU threads: the runtime's choice"
    in_all = profile.instances * len(profile.devices)
    requests = say_count(run.window.requests, "request")
    slower = f"; {profile.precision} is SLOWER than f32 here" if (profile.times_f32 or SLOWER) < SLOWER else ""
    facts = {
        "model": f"{profile.model}, {profile.target} on {profile.runtime}, precision {profile.precision}",
        "instances": f"{profile.instances} for each device, {in_all} in all, {threads}",
        "inputs": f"{profile.inputs}; a request is a batch of {profile.batch_size} on the {profile.input}",
        "measured": f"{requests} in {run.window.seconds:.2f} s after warm-up; {_explain_stop(profile, run)}",
        **_describe_loop(profile, run),
        **_distrust(run.window.response),
        "repeats": _say_repeats([profile.samples_per_s(one) for one in profile.runs]),
        "load time": _say_load_time(profile.cold),
        "auto": profile.why,
        "beside f32": profile.times_f32 and f"{profile.times_f32:.2f} times as fast, calls in turn{slower}",
        "parity": parity
        and f"with {parity.reference}, {parity.count} inputs: cosine min {parity.cosine_min:.6f}, "
        f"median {parity.cosine_median:.6f}, top-1 agreement {parity.top1_agreement:.1%}",
        "peak memory": profile.peak_memory_mib and f"{profile.peak_memory_mib:.0f} MiB, of the whole process",
        "machine": f"{machine.cpu}, {machine.cores} cores, {machine.system}, load {machine.load_1m}",
    }
    stages = tabulate_stages(line_up([("", profile)]).items)
    partial = "PARTIAL: interrupted; these are the figures up to then" if profile.partial else ""
    return Document(title=partial, sections=(Section(items=(list_facts(facts), stages)),))


def format_sample_form(profile: Profile, devices: str | None = None, instances: int | None = None) -> str:
    """The vendor sample's lines: instances, devices, queue size, batch size, throughput and latency.

    Devices stand as they were asked for, else by their names; instances in all, as the sample counts them, else those
    of each device.
    """
    run = profile.run
    latency = run.window.response
    lines = [
        f"- number of instances: {instances or profile.instances}",
        f"  devices: {devices or '[' + ', '.join(profile.devices) + ']'}",
        f"  queue size: {profile.load.depth}",
        f"  batch size: {profile.batch_size}",
        f"  throughput (qps): {profile.samples_per_s():.2f}",
        "  latency (us):",
        f"    avg latency: {_whole(latency.mean_us)}",
        f"    min latency: {_whole(latency.min_us)}",
        f"    max latency: {_whole(latency.max_us)}",
        *(f"    p{item.percent:g} latency: {_whole(item.value_us)}" for item in latency.percentiles),
    ]
    return "\n".join(lines)


def _distrust(latency: Spread) -> dict[str, str]:
    return {
        f"p{item.percent:g}": f"too few samples to trust ({latency.count}; {item.needed} needed)"
        for item in latency.percentiles
        if not item.trusted
    }


def _say_repeats(rates: list[float]) -> str:
    low, middle, high = min(rates), sorted(rates)[len(rates) // 2], max(rates)
    said = f"{len(rates)}, throughput {low:.2f} to {high:.2f} (shown: the median run), spread"
    return f"{said} {(high - low) / middle:.1%}" if len(rates) > 1 else ""


def _say_load_time(cold: Cold) -> str:
    read = "" if cold.read_ms is None else f"read {cold.read_ms:.0f} ms, "
    first = f"first call {_whole(cold.first_call_us)} us"
    return f"import the runtime {cold.import_ms:.0f} ms, {read}compile {cold.compile_ms:.0f} ms, {first}"


def _describe_loop(profile: Profile, run: Run) -> dict[str, str | None]:
    window, overload = run.window, run.overload
    if profile.load.rate is None or overload is None:
        gap = abs(window.little - run.places) / run.places
        return {
            "closed loop": f"asked for {run.places} in flight, {window.in_flight:.3f} measured; Little's law: "
            f"{window.requests_per_s:.2f} requests/s x {window.service.mean_us / 1e6:.6f} s = {window.little:.3f} "
            f"({gap:.1%} off)"
        }
    return {
        "open loop": f"Poisson, {profile.load.rate:g} requests/s asked for (seed {profile.load.seed}), "
        f"{overload.offered_per_s:.2f} offered, {overload.finished_per_s:.2f} answered, "
        f"up to {run.places} in flight; latency is counted from the intended time",
        "queue delay": f"avg {_whole(window.queue.mean_us)} us, max {_whole(window.queue.max_us)} us",
        "service time": f"avg {_whole(window.service.mean_us)} us, max {_whole(window.service.max_us)} us",
        "generator": None if run.lag_us is None else f"late by {run.lag_us:.0f} us (median) where a place was free",
        "OVERLOADED": f"the queue delay grew by {overload.queue_growth / 1e3:.0f} ms each second; the latencies above "
        "say how long it was measured, not how fast the system is"
        if overload.overloaded
        else None,
    }


def _explain_stop(profile: Profile, run: Run) -> str:
    load = profile.load
    tolerance = f"{load.tolerance:.0%}" + ("" if load.rate is None else " and the arrivals' own unevenness")
    short = run.window.requests < load.iterations
    missing = f" and all of the {load.iterations:,} requests asked for were answered" if short else ""
    return _STOPS[run.stop].format(tolerance=tolerance, missing=missing)


def _whole(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "-"
