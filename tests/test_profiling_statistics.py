"""Counts, windows and percentiles agree with a brute-force reference on thousands of random traces."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from clipworks.errors import UsageError
from clipworks.profiling import search, statistics
from clipworks.profiling.load import Trace

PERCENTS = (0, 1, 50, 55, 90, 95, 99, 99.9, 100)


def random_trace(rng: np.random.Generator) -> Trace:
    count = int(rng.integers(1, 60))
    intended = np.sort(rng.integers(0, 1000, count))
    started = intended + rng.integers(0, 50, count)
    finished = started + rng.integers(1, 200, count)
    order = np.argsort(finished, kind="stable")
    return Trace(intended=intended[order], started=started[order], finished=finished[order], begin=0, end=2000)


def brute_percentile(values: list[int], percent: float) -> int:
    """The smallest value that at least that share of the samples does not exceed, in exact arithmetic."""
    share = Fraction(str(percent)) / 100
    for value in sorted(values):
        if Fraction(sum(1 for other in values if other <= value), len(values)) >= share:
            return value
    raise AssertionError


def test_windows_and_percentiles_match_brute_force() -> None:
    rng = np.random.default_rng(11)
    for _ in range(3000):
        trace = random_trace(rng)
        begin, end = sorted(rng.choice(1200, 2, replace=False).tolist())
        window = statistics.summarise(trace, begin, end, PERCENTS)
        rows = [
            (int(intended), int(started), int(finished))
            for intended, started, finished in zip(trace.intended, trace.started, trace.finished, strict=True)
        ]
        inside = [row for row in rows if begin < row[2] <= end]
        assert window.requests == len(inside)
        busy = sum(max(0, min(finished, end) - max(started, begin)) for _, started, finished in rows)
        assert window.in_flight == pytest.approx(busy / (end - begin))
        if not inside:
            assert math.isnan(window.response.mean_us)
            continue
        response = [finished - intended for intended, _, finished in inside]
        assert window.response.mean_us == pytest.approx(sum(response) / len(response) / 1000)
        assert window.queue.max_us * 1000 == max(started - intended for intended, started, _ in inside)
        assert window.service.min_us * 1000 == min(finished - started for _, started, finished in inside)
        for item in window.response.percentiles:
            assert round(item.value_us * 1000) == brute_percentile(response, item.percent)


def test_sample_counts_are_those_of_early_stopping() -> None:
    assert [statistics.count_needed(percent) for percent in (90, 95, 99)] == [64, 130, 662]
    assert statistics.count_needed(50) == 11
    assert statistics.count_needed(1) == 662
    assert statistics.count_needed(100) == statistics.count_needed(0) == 1
    assert 6500 < statistics.count_needed(99.9) < 6800


def test_a_percentile_with_too_few_samples_is_marked() -> None:
    few = statistics.spread(np.arange(661), (50, 99))
    enough = statistics.spread(np.arange(662), (50, 99))
    assert [item.trusted for item in few.percentiles] == [True, False]
    assert [item.trusted for item in enough.percentiles] == [True, True]


def test_percentiles_outside_0_to_100_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--percentiles holds -0\.5; allowed: 0 to 100"):
        statistics.check_percentiles([-0.5])


def test_windows_agree_only_when_the_last_three_do() -> None:
    assert not statistics.find_agreement([100, 100], 0.03)
    assert statistics.find_agreement([50, 100, 101, 99], 0.03)
    assert not statistics.find_agreement([100, 100, 110], 0.03)
    assert not statistics.find_agreement([0, 0, 0], 0.03)
    assert statistics.find_agreement([90, 100, 110], 0.03, counts=[400, 400, 400])
    assert not statistics.find_agreement([90, 100, 110], 0.03, counts=[4000, 4000, 4000])


def test_the_pareto_front_matches_brute_force() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        points = [(float(rate), float(latency)) for rate, latency in rng.integers(0, 6, (8, 2))]
        marks = search.find_pareto(points)
        for mark, (rate, latency) in zip(marks, points, strict=True):
            beaten = [p for p in points if p != (rate, latency) and p[0] >= rate and p[1] <= latency]
            assert mark == (not beaten)


@pytest.mark.parametrize("text", ["p99", "99=50ms", "p99=50", "p101=5ms", "p0=5ms", "p99=0ms", "p99=-1ms", "fast"])
def test_a_bound_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--slo is"):
        search.parse_slo(text)


def test_a_bound_is_read_in_any_unit() -> None:
    assert search.parse_slo("p99=50ms") == search.Slo(percent=99, bound_us=50_000)
    assert search.parse_slo("p99.9 = 0.5s").bound_us == 500_000
    assert search.parse_slo("p50=900us").bound_us == 900


def test_a_grid_is_read_and_its_mistakes_are_named() -> None:
    assert search.parse_sweep(["batch=1,2,2,8", "depth=0,1"]) == {"batch": (1, 2, 8), "depth": (0, 1)}
    for words, message in [
        (["size=1"], "unknown axis 'size'; allowed: batch, depth"),
        (["batch=0"], "allowed: 1 or more"),
        (["depth=-1"], "allowed: 0 or more"),
        (["batch=a"], "allowed: whole numbers"),
        (["batch=1", "batch=2"], "names batch twice"),
    ]:
        with pytest.raises(UsageError, match=message):
            search.parse_sweep(words)
