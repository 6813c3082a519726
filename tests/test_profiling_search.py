"""The search for the highest rate finds what queueing theory says, on a virtual clock."""

from __future__ import annotations

import pytest
from servers import MS, serve
from virtual_clock import VirtualClock

from clipworks.profiling.measurement import measure
from clipworks.profiling.profile import Load, Run
from clipworks.profiling.search import RateSearch, parse_slo, search_rate

LOAD = Load(depth=1, duration_s=30, timeout_s=30, warmup_s=1, iterations=1)


def find(bound: str) -> RateSearch:
    """One server of 5 ms, 200/s at most."""

    def run_load(load: Load) -> Run:
        clock = VirtualClock()
        return measure([serve(clock, lambda _: 5 * MS)], load, clock=clock)

    return search_rate(200.0, LOAD, parse_slo(bound), run_load)


def test_a_loose_bound_allows_nearly_the_capacity() -> None:
    found = find("p90=100ms")
    assert found.best is not None
    assert 175 <= found.best <= 205


def test_a_tight_bound_allows_less_and_the_next_rate_breaks_it() -> None:
    """M/D/1: the wait is within one service time with probability (1 - load) e^load, 90% at a load of 0.392."""
    found = find("p90=10ms")
    assert found.best is not None
    assert found.lowest_failed is not None
    assert found.best == pytest.approx(0.392 * 200, rel=0.08)
    assert found.best < found.lowest_failed <= found.best * 1.06
    assert all(trial.kept == (trial.rate <= found.best) for trial in found.trials)


def test_a_bound_below_the_service_time_is_never_kept() -> None:
    found = find("p50=4ms")
    assert found.best is None
    (trial,) = found.trials  # not one request kept it, so no lower rate is tried
    assert not trial.kept


def test_every_trial_has_enough_samples_for_its_percentile() -> None:
    found = find("p99=60ms")
    for trial in found.trials:
        p99 = next(item for item in trial.run.window.response.percentiles if item.percent == 99)
        assert p99.trusted or trial.run.window.requests == pytest.approx(662, rel=0.1)
