"""A profile in the form that the vendor's CLIP sample prints."""

from __future__ import annotations

import math

from clipworks.profiling.profile import Profile


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


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"
