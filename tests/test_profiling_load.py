"""The load generator tells the truth about servers of known behaviour, on a virtual clock and with real sleeps."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from servers import MS, serve
from virtual_clock import VirtualClock

from clipworks.errors import MeasurementError, UsageError
from clipworks.profiling.clock import NS, MonotonicClock
from clipworks.profiling.load import Arrivals, run_load
from clipworks.profiling.measurement import measure
from clipworks.profiling.profile import Load, Run

LOAD = Load(duration_s=10, timeout_s=20, warmup_s=1, iterations=1)


def percentile(run: Run, percent: float, kind: str = "response") -> float:
    found: dict[float, float] = {item.percent: item.value_us for item in getattr(run.window, kind).percentiles}
    return found[percent]


@pytest.mark.parametrize("instances", [1, 2, 3])
@pytest.mark.parametrize("depth", [0, 1, 2, 4, 7])
def test_a_server_of_known_service_time_gives_its_exact_figures(depth: int, instances: int) -> None:
    """5 ms, one at a time: 200/s for each instance at every depth, and depth x 5 ms of latency."""
    clock = VirtualClock()
    servers = [serve(clock, lambda _: 5 * MS) for _ in range(instances)]
    run = measure(servers, dataclasses.replace(LOAD, depth=depth), clock=clock)
    in_flight = max(depth, 1)
    assert run.places == in_flight * instances
    assert run.window.requests_per_s == pytest.approx(200 * instances, rel=2e-3)
    for percent in (50, 90, 95, 99):
        assert percentile(run, percent) == in_flight * 5000
    assert run.window.response.min_us == run.window.response.max_us == in_flight * 5000
    assert run.window.little == pytest.approx(run.places, rel=2e-3)
    assert run.window.in_flight == pytest.approx(run.places, rel=1e-9)
    assert run.stop == "stable"


def test_a_server_with_room_for_four_is_filled_by_depth_four_not_sooner() -> None:
    for depth, rate in [(1, 100), (2, 200), (4, 400), (8, 400)]:
        clock = VirtualClock()
        run = measure(
            [serve(clock, lambda _: 10 * MS, capacity=4)], dataclasses.replace(LOAD, depth=depth), clock=clock
        )
        assert run.window.requests_per_s == pytest.approx(rate, rel=5e-3)
        assert percentile(run, 50) == 10_000 * max(depth / 4, 1)


def test_varied_service_times_give_their_own_percentiles() -> None:
    """One request in ten takes 20 ms, the others 1 ms: p90 is 1 ms, p95 20 ms."""
    clock = VirtualClock()
    run = measure(
        [serve(clock, lambda number: 20 * MS if number % 10 == 0 else MS)],
        dataclasses.replace(LOAD, depth=0),
        clock=clock,
    )
    assert percentile(run, 50) == 1000
    assert percentile(run, 95) == 20_000
    assert run.window.response.mean_us == pytest.approx(2900, rel=0.01)
    assert run.window.requests_per_s == pytest.approx(1 / 0.0029, rel=0.01)


def test_exactly_as_many_requests_as_asked_for_are_measured() -> None:
    for iterations in (1, 7, 1000):
        clock = VirtualClock()
        load = dataclasses.replace(LOAD, depth=3, iterations=iterations, duration_s=0, warmup_s=0.5)
        run = measure([serve(clock, lambda _: 2 * MS)], load, clock=clock)
        assert run.window.requests == iterations
        assert run.stop == "count reached"
        assert run.window.seconds == pytest.approx(iterations * 0.002, rel=0.01, abs=0.0041)


def test_warm_up_is_thrown_away() -> None:
    """The first hundred requests are fifty times slower and leave no trace in the figures."""
    clock = VirtualClock()
    server = serve(clock, lambda number: 50 * MS if number < 100 else MS)
    run = measure([server], dataclasses.replace(LOAD, warmup_s=6), clock=clock)
    assert run.window.response.max_us == 1000


def test_a_rate_that_never_settles_is_called_unstable_and_ends_in_time() -> None:
    clock = VirtualClock()

    def slower_each_second(_: int) -> int:
        return MS * (1 + clock.now() // NS)

    run = measure([serve(clock, slower_each_second)], LOAD, clock=clock)
    assert run.stop == "time is up"
    assert run.window.seconds == pytest.approx(20, abs=0.5)


def test_a_stall_shows_in_the_open_loop_and_hides_in_the_closed_one() -> None:
    """200 ms of standstill every second: a fifth of all arrivals meet it, but a closed loop sends one into it."""
    stall = (NS, 200 * MS)
    clock = VirtualClock()
    closed = measure([serve(clock, lambda _: MS, stall=stall)], dataclasses.replace(LOAD, depth=1), clock=clock)
    clock = VirtualClock()
    opened = measure(
        [serve(clock, lambda _: MS, stall=stall)],
        dataclasses.replace(LOAD, depth=1, rate=400.0, duration_s=20, timeout_s=20),
        clock=clock,
    )
    assert percentile(closed, 99) == 1000
    assert percentile(opened, 99) > 150_000
    assert opened.overload is not None
    assert not opened.overload.overloaded


def test_twice_the_sustainable_rate_is_called_overloaded() -> None:
    clock = VirtualClock()
    load = dataclasses.replace(LOAD, depth=2, rate=400.0, duration_s=20, timeout_s=20)
    run = measure([serve(clock, lambda _: 5 * MS)], load, clock=clock)
    assert run.overload is not None
    assert run.overload.overloaded
    assert run.overload.finished_per_s == pytest.approx(200, rel=0.01)
    assert run.overload.offered_per_s == pytest.approx(400, rel=0.05)
    # Half of what comes is left over: each second the queue grows by half a second.
    assert run.overload.queue_growth == pytest.approx(500_000, rel=0.1)


def test_half_the_sustainable_rate_is_not_called_overloaded() -> None:
    for seed in range(5):
        clock = VirtualClock()
        load = dataclasses.replace(LOAD, depth=2, rate=100.0, seed=seed)
        run = measure([serve(clock, lambda _: 5 * MS)], load, clock=clock)
        assert run.overload is not None
        assert not run.overload.overloaded


def test_an_open_loop_queues_as_theory_says() -> None:
    """Poisson arrivals, one server, constant service (M/D/1): mean wait = load / (2 (1 - load)) service times."""
    clock = VirtualClock()
    load = dataclasses.replace(LOAD, depth=1, rate=140.0, duration_s=400, timeout_s=400)
    run = measure([serve(clock, lambda _: 5 * MS)], load, clock=clock)
    share = 0.7
    assert run.window.queue.mean_us == pytest.approx(5000 * share / (2 * (1 - share)), rel=0.08)
    assert run.window.service.mean_us == pytest.approx(5000)


def test_arrivals_are_poisson_seeded_and_of_the_rate_asked_for() -> None:
    times = Arrivals(1000, seed=3).until(60 * NS)
    gaps = np.diff(times) / NS
    again = Arrivals(1000, seed=3)
    assert [again.at(number) for number in (9000, 0, 4095, 4096)] == times[[9000, 0, 4095, 4096]].tolist()
    assert not np.array_equal(times[:100], Arrivals(1000, seed=4).until(NS)[:100])
    assert len(times) == pytest.approx(60_000, rel=0.02)
    # An exponential's standard deviation equals its mean.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert times[-1] <= 60 * NS


def test_real_sleeps_give_the_figures_of_the_server() -> None:
    """On the system's clock: nothing is ever quicker than the server, and Little's law holds within 3%."""

    def server(_: int) -> None:
        time.sleep(0.004)

    load = Load(depth=3, duration_s=0, iterations=600, timeout_s=10, warmup_s=0.05)
    run = measure([server, server], load)
    assert run.window.requests == 600
    assert run.window.response.min_us >= 4000
    assert run.window.little == pytest.approx(6, rel=0.03)
    assert run.window.in_flight == pytest.approx(6, rel=0.03)
    assert run.window.requests_per_s <= 6 / 0.004


@pytest.mark.parametrize(("service_ms", "depth"), [(700, 1), (300, 4), (1300, 4), (1900, 1)])
def test_slow_servers_give_their_exact_throughput_too(service_ms: int, depth: int) -> None:
    """The window ends with an answer: a request that is cut off at the end must not count as time without work."""
    clock = VirtualClock()
    load = Load(depth=depth, duration_s=5, timeout_s=5, warmup_s=1, iterations=1)
    run = measure([serve(clock, lambda _: service_ms * MS, capacity=depth)], load, clock=clock)
    assert run.window.requests_per_s == pytest.approx(depth * 1000 / service_ms, rel=1e-6)
    assert run.window.little == pytest.approx(depth, rel=1e-6)


def test_exactly_as_many_arrivals_as_asked_for_are_measured_however_long_it_takes() -> None:
    clock = VirtualClock()
    load = Load(depth=2, rate=20, iterations=200, duration_s=0, warmup_s=0)
    run = measure([serve(clock, lambda _: MS)], load, clock=clock)
    assert (run.window.requests, run.stop) == (200, "count reached")


def test_an_open_loop_is_warm_by_time_though_its_places_never_fill() -> None:
    clock = VirtualClock()
    load = Load(depth=32, rate=1.0, iterations=1, duration_s=60, timeout_s=60, warmup_s=1)
    run = measure([serve(clock, lambda _: MS, capacity=32)], load, clock=clock)
    assert run.window.requests == pytest.approx(60, abs=25)
    assert run.stop in ("stable", "time is up")


def test_an_overloaded_run_is_never_called_stable() -> None:
    for seed in range(6):
        clock = VirtualClock()
        load = dataclasses.replace(LOAD, depth=1, rate=260.0, seed=seed, timeout_s=60)
        assert measure([serve(clock, lambda _: 5 * MS)], load, clock=clock).stop != "stable"


def test_nothing_answered_is_an_error_not_an_empty_row() -> None:
    clock = VirtualClock()
    with pytest.raises(
        MeasurementError, match=r"0 requests were answered in .* s, too few to warm up with 1 in flight"
    ):
        measure([serve(clock, lambda _: 100_000 * MS)], LOAD, clock=clock)
    clock = VirtualClock()
    load = dataclasses.replace(LOAD, rate=0.001)
    with pytest.raises(MeasurementError, match="no request was answered in the"):
        measure([serve(clock, lambda _: MS)], load, clock=clock)


def test_stages_are_those_of_the_measured_window() -> None:
    clock = VirtualClock()
    asked: list[tuple[int, int]] = []

    def summarise(begin: int, end: int) -> tuple[()]:
        asked.append((begin, end))
        return ()

    run = measure([serve(clock, lambda _: 5 * MS)], LOAD, clock=clock, summarise_stages=summarise)
    (begin, end) = asked[0]
    assert begin >= 1 * NS
    assert (end - begin) / NS == pytest.approx(run.window.seconds)


def test_a_call_that_fails_ends_the_load_with_its_own_error() -> None:
    def fail(number: int) -> None:
        if number == 5:
            raise ZeroDivisionError("the runtime broke")
        time.sleep(0.001)

    with pytest.raises(ZeroDivisionError, match="the runtime broke"):
        measure([fail], Load(depth=2, duration_s=5, timeout_s=5, warmup_s=0))


def test_ctrl_c_keeps_what_was_measured() -> None:
    clock = VirtualClock()

    def interrupt(elapsed_s: float, _: float | None) -> None:
        if elapsed_s > 4:
            raise KeyboardInterrupt

    run = measure([serve(clock, lambda _: 5 * MS)], LOAD, clock=clock, report=interrupt)
    assert run.stop == "interrupted"
    assert 500 <= run.window.requests <= 700
    assert percentile(run, 50) == 5000


def test_raw_samples_are_kept_on_request_only() -> None:
    clock = VirtualClock()
    load = dataclasses.replace(LOAD, duration_s=0, iterations=50)
    kept = measure([serve(clock, lambda _: MS)], load, clock=clock, keep_samples=True)
    assert len(kept.response_us) == len(kept.started_us) == 50
    assert set(kept.response_us) == {1000.0}
    clock = VirtualClock()
    assert measure([serve(clock, lambda _: MS)], load, clock=clock).response_us == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": -1}, r"--depth is -1; allowed: 0 \(one after another\) or more"),
        ({"iterations": -1}, "--iterations is -1; allowed: 0"),
        ({"iterations": 0, "duration_s": 0}, "--iterations and --duration are both 0"),
        ({"duration_s": -2}, "--duration is -2; allowed: 0 to 1,000,000"),
        ({"warmup_s": float("nan")}, "--warmup is nan"),
        ({"timeout_s": 1}, r"--timeout is 1; allowed: --duration \(10\) or more"),
        ({"percentiles": (50, 101)}, "--percentiles holds 101; allowed: 0 to 100"),
        ({"rate": 0.0}, "--rate is 0; allowed: above 0"),
        ({"rate": -5.0}, "--rate is -5; allowed: above 0"),
    ],
)
def test_impossible_loads_name_the_option_and_what_is_allowed(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure([lambda _: None], dataclasses.replace(LOAD, **change))  # type: ignore[arg-type]


def test_a_load_without_servers_is_refused() -> None:
    with pytest.raises(UsageError, match="there are 0 requests to keep in flight; allowed: 1 to 1,024"):
        run_load([], depth=1, clock=MonotonicClock(), watch=lambda _: False, interval_s=0.1)
