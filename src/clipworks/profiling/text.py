"""A profile as text: first in the form of the vendor's CLIP sample, then what that form lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipworks.display import show_text
from clipworks.profiling.profile import SLOWER, Profile, Run
from clipworks.profiling.search import RateSearch, rank_profiles
from clipworks.profiling.statistics import Percentile, Spread


def format_sample_form(profile: Profile, devices: str | None = None, instances: int | None = None) -> str:
    """The vendor sample's lines: instances, devices, queue size, batch size, throughput and latency.

    Args:
        profile: what was measured.
        devices: how they were asked for; None for their names.
        instances: in all, as the sample counts them; None for those of each device.
    """
    run = profile.run
    latency = run.window.response
    lines = [
        f"- number of instances: {instances or profile.instances}",
        f"  devices: {devices or '[' + ', '.join(profile.devices) + ']'}",
        f"  queue size: {profile.load.depth}",
        f"  batch size: {profile.batch_size}",
        f"  throughput (qps): {run.window.requests_per_s * profile.batch_size:.2f}",
        "  latency (us):",
        f"    avg latency: {_whole(latency.mean_us)}",
        f"    min latency: {_whole(latency.min_us)}",
        f"    max latency: {_whole(latency.max_us)}",
        *(f"    p{item.percent:g} latency: {_whole(item.value_us)}" for item in latency.percentiles),
    ]
    return "\n".join(lines)


def format_profile(profile: Profile) -> str:
    """The whole profile: the sample's form, then what was in use, how it was measured and how far to trust it."""
    run = profile.run
    window = run.window
    in_all = profile.instances * len(profile.devices)
    lines = [format_sample_form(profile), ""]
    if profile.partial:
        lines.append("PARTIAL: interrupted; these are the figures up to then")
    lines += [
        f"model: {show_text(profile.model)}, {profile.target} on {profile.runtime}, precision {profile.precision}",
        f"instances: {profile.instances} for each device, {in_all} in all"
        + (f", {profile.threads} CPU threads each" if profile.threads else ", CPU threads: the runtime's choice"),
        f"inputs: {show_text(profile.inputs)}; a request is a batch of {profile.batch_size} on the {profile.input}",
        f"measured: {window.requests} requests in {window.seconds:.2f} s after warm-up; {_explain_stop(profile, run)}",
    ]
    lines += _describe_loop(profile, run)
    lines += [f"p{item.percent:g}: {note}" for item, note in _distrust(window.response)]
    if len(profile.runs) > 1:
        rates = sorted(item.window.requests_per_s * profile.batch_size for item in profile.runs)
        lines.append(
            f"repeats: {len(rates)}, throughput {rates[0]:.2f} to {rates[-1]:.2f} (shown: the median run), "
            f"spread {(rates[-1] - rates[0]) / rates[len(rates) // 2]:.1%}"
        )
    cold = profile.cold
    read = "" if cold.read_ms is None else f"read {cold.read_ms:.0f} ms, "
    lines.append(
        f"cold start: import the runtime {cold.import_ms:.0f} ms, {read}compile {cold.compile_ms:.0f} ms, "
        f"first call {_whole(cold.first_call_us)} us"
    )
    if run.stages:
        lines.append("stages of a request, mean us (share):")
        lines += [f"  {stage.name:<7}{stage.mean_us:>10.0f}  {stage.share:>6.1%}" for stage in run.stages]
    if profile.why:
        lines.append(f"auto: {profile.why}")
    if profile.times_f32 is not None:
        slower = f"; {profile.precision} is SLOWER than f32 here" if profile.times_f32 < SLOWER else ""
        lines.append(f"beside f32, calls in turn: {profile.times_f32:.2f} times as fast{slower}")
    if profile.parity:
        parity = profile.parity
        lines.append(
            f"parity with {parity.reference}, {parity.count} inputs: cosine min {parity.cosine_min:.6f}, "
            f"median {parity.cosine_median:.6f}, top-1 agreement {parity.top1_agreement:.1%}"
        )
    if profile.peak_memory_mib:
        lines.append(f"peak memory of the process: {profile.peak_memory_mib:.0f} MiB")
    machine = profile.environment
    lines.append(f"machine: {machine.cpu}, {machine.cores} cores, {machine.system}, load {machine.load_1m}")
    return "\n".join(lines)


def format_sweep(profiles: Sequence[Profile], percent: float) -> str:
    """One line a configuration; the best throughput and the Pareto front against pN are marked."""
    best, front = rank_profiles(profiles, percent)
    lines = [
        f"{'batch':>5} {'depth':>5} {'instances':>9} {'threads':>7} {'qps':>10} {'avg us':>10} "
        f"{f'p{percent:g} us':>10} {'in flight':>9}"
    ]
    for index, item in enumerate(profiles):
        window = item.run.window
        latency = next(found.value_us for found in window.response.percentiles if found.percent == percent)
        marks = ("  best throughput" if index == best else "") + ("  Pareto" if front[index] else "")
        lines.append(
            f"{item.batch_size:>5} {item.load.depth:>5} {item.instances:>9} {item.threads or 'auto':>7} "
            f"{window.requests_per_s * item.batch_size:>10.2f} {window.response.mean_us:>10.0f} "
            f"{_whole(latency):>10} {window.in_flight:>9.2f}{marks}"
        )
    return "\n".join(lines)


def format_search(search: RateSearch) -> str:
    """Every rate that was tried, then the highest that keeps the bound."""
    percent, bound = search.slo.percent, search.slo.bound_us
    lines = [f"{'rate/s':>10} {'answered/s':>10} {f'p{percent:g} us':>12}  bound {bound:.0f} us"]
    for trial in search.trials:
        window = trial.run.window
        value = next(item.value_us for item in window.response.percentiles if item.percent == percent)
        overloaded = trial.run.overload is not None and trial.run.overload.overloaded
        found = next(item for item in window.response.percentiles if item.percent == percent)
        undecided = not found.trusted and found.value_us <= bound
        verdict = "kept" if trial.kept else "overloaded" if overloaded else "undecided" if undecided else "broken"
        lines.append(f"{trial.rate:>10.2f} {window.requests_per_s:>10.2f} {_whole(value):>12}  {verdict}")
    if search.partial:
        lines.append("PARTIAL: interrupted")
    if search.best is None:
        lines.append(f"no rate that was tried keeps p{percent:g} within {bound:.0f} us")
    else:
        failed = f"; broken at {search.lowest_failed:.2f}" if search.lowest_failed else ""
        lines.append(
            f"highest rate that keeps p{percent:g} within {bound:.0f} us: {search.best:.2f} requests/s{failed}"
        )
    return "\n".join(lines)


def _describe_loop(profile: Profile, run: Run) -> list[str]:
    window = run.window
    if profile.load.rate is None or run.overload is None:
        asked = f"asked for {run.places}"
        gap = abs(window.little - run.places) / run.places
        return [
            f"closed loop: {asked} in flight, {window.in_flight:.3f} measured; Little's law: "
            f"{window.requests_per_s:.2f} requests/s x {window.service.mean_us / 1e6:.6f} s = {window.little:.3f} "
            f"({gap:.1%} off)"
        ]
    lines = [
        f"open loop: Poisson, {profile.load.rate:g} requests/s asked for (seed {profile.load.seed}), "
        f"{run.overload.offered_per_s:.2f} offered, {run.overload.finished_per_s:.2f} answered, "
        f"up to {run.places} in flight; latency is counted from the intended time",
        f"  queue delay (us): avg {_whole(window.queue.mean_us)}, max {_whole(window.queue.max_us)}; "
        f"service time (us): avg {_whole(window.service.mean_us)}, max {_whole(window.service.max_us)}",
    ]
    if run.lag_us is not None:
        lines.append(f"  the generator itself was late by {run.lag_us:.0f} us (median) where a place was free")
    if run.overload.overloaded:
        lines.append(
            f"OVERLOADED: the queue delay grew by {run.overload.queue_growth / 1e3:.0f} ms each second; "
            "the latencies above say how long it was measured, not how fast the system is"
        )
    return lines


def _explain_stop(profile: Profile, run: Run) -> str:
    tolerance = f"{profile.load.tolerance:.0%}"
    if profile.load.rate is not None:
        tolerance += " and the arrivals' own unevenness"
    short = run.window.requests < profile.load.iterations
    missing = f" and all of the {profile.load.iterations:,} requests asked for were answered" if short else ""
    return {
        "stable": f"stable: the last three windows' rates agree within {tolerance}",
        "overloaded": "the queue grew all the while",
        "time is up": f"NOT stable: time was up before three windows agreed within {tolerance}{missing}",
        "count reached": "as many requests as asked for",
        "interrupted": "interrupted",
    }[run.stop]


def _distrust(latency: Spread) -> list[tuple[Percentile, str]]:
    return [
        (item, f"too few samples to trust ({latency.count}; {item.needed} needed)")
        for item in latency.percentiles
        if not item.trusted
    ]


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"
