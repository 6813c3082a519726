"""Cores that the encoders of one machine keep from each other."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from clipworks.cluster import cores

Marks = dict[int, socket.socket]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are tied to cores on Linux only")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """A machine of four cores that no other has, and what a process was last narrowed to."""
    first = 1_000_000 + 4 * os.getpid()
    seen = {"all": set(range(first, first + 4)), "kept": set()}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: seen["all"])
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, mask: seen.update(kept=set(mask)))
    return seen


def test_encoders_of_one_machine_keep_different_cores_and_free_them(
    machine: dict[str, set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second takes the next cores, and a new one those of an encoder that has ended."""
    first, *_, last = sorted(machine["all"])
    one, other, third = Marks(), Marks(), Marks()
    monkeypatch.setattr(cores, "_marks", one)
    cores.keep_cores(2)
    assert machine["kept"] == {first, first + 1}
    monkeypatch.setattr(cores, "_marks", other)
    cores.keep_cores(2)
    assert machine["kept"] == {last - 1, last}
    monkeypatch.setattr(cores, "_marks", one)
    cores.free_cores()
    monkeypatch.setattr(cores, "_marks", third)
    cores.keep_cores(1)
    assert machine["kept"] == {first}
    for marks in (other, third):
        monkeypatch.setattr(cores, "_marks", marks)
        cores.free_cores()


def test_an_encoder_that_finds_too_few_free_cores_is_left_as_it_is(
    machine: dict[str, set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is narrowed, and no core is marked for nothing."""
    one = Marks()
    monkeypatch.setattr(cores, "_marks", one)
    cores.keep_cores(3)
    machine["kept"] = set()
    monkeypatch.setattr(cores, "_marks", {})
    cores.keep_cores(2)
    assert machine["kept"] == set()
    cores.keep_cores(1)
    assert machine["kept"] == {max(machine["all"])}
    cores.free_cores()
    monkeypatch.setattr(cores, "_marks", one)
    cores.free_cores()
