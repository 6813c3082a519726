"""The planner's arithmetic: which stage holds a node up, and how many nodes that makes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from plan_cluster import SPARE, Setting, count_nodes, explain, rate_node

GPUS = Setting(
    images=1_000_000,
    image_kb=100,
    decode_ms=10,
    encode_per_s=500,
    encoders_per_node=4,
    cores_per_node=100,
    network_gbit=8,
    dim=512,
    batch_size=32,
    tar_images=1000,
    driver_ms=5,
    cpu_encoders=False,
)


@pytest.mark.parametrize(
    ("changes", "bottleneck", "rate"),
    [
        ({}, "encode", 2000),
        ({"encode_per_s": 5000.0}, "read", 10_000),
        ({"encode_per_s": 5000.0, "network_gbit": 80.0, "decode_ms": 20.0}, "decode", 5000),
        ({"cpu_encoders": True}, "decode and encode", 1 / (1 / 10_000 + 1 / 2000)),
    ],
)
def test_the_slowest_stage_sets_a_nodes_rate(changes: dict[str, Any], bottleneck: str, rate: float) -> None:
    rates = rate_node(dataclasses.replace(GPUS, **changes))
    assert rates.bottleneck == bottleneck
    assert rates.node == pytest.approx(SPARE * rate)


def test_nodes_and_hours_agree() -> None:
    """As many nodes as were counted for some hours need no longer, and one fewer does."""
    nodes = count_nodes(GPUS, 0.02)
    hours = GPUS.images / (nodes * rate_node(GPUS).node) / 3600
    assert hours <= 0.02 < hours * nodes / (nodes - 1)


def test_a_driver_that_cannot_keep_up_is_told() -> None:
    assert "TOO FEW" not in "\n".join(explain(GPUS, 3))
    assert "TOO FEW" in "\n".join(explain(GPUS, 5))
