"""The figures of a comparison: accuracy beside accuracy on the same images, agreement, gates, the Pareto front."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from report_files import make_comparison

from clipworks.bundle.card import ScoreRule
from clipworks.comparison.accuracy import (
    Embedded,
    Pool,
    compare_accuracy,
    find_correct,
    mcnemar,
    measure_accuracy,
    measure_agreement,
)
from clipworks.comparison.comparison import Row, comparison_from_json, comparison_to_json
from clipworks.comparison.figures import Difference
from clipworks.comparison.rows import check_gates, mark_front, parse_gates
from clipworks.comparison.speeds import order_round
from clipworks.errors import UnknownNameError, UsageError
from clipworks.evaluation.accuracy import wilson
from clipworks.scoring import Floats, normalise
from clipworks.text.prompts import Labels


def compare_counts(both: int, only_row: int, only_reference: int, neither: int) -> Difference:
    """The difference of two rows with so many images of each kind."""
    counts = (both, only_row, only_reference, neither)
    own = np.repeat(np.array([True, True, False, False]), counts)
    other = np.repeat(np.array([True, False, True, False]), counts)
    return compare_accuracy({1: own}, {1: other}, "reference")[0]


@pytest.mark.parametrize(
    ("counts", "difference", "low", "high"),
    [
        ((36, 12, 2, 0), 0.2, 0.0569, 0.3404),  # Newcombe 1998, table III
        ((14, 5, 0, 22), 0.1220, 0.0115, 0.2265),  # Altman and others 2000, Statistics with Confidence, table 6.2
        ((1, 1, 7, 12), -0.2857, -0.5069, -0.0256),  # Bentur and others 2009, in Fagerland and others 2017, chapter 8
        ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),  # Cavo and others 2012, likewise; as R's contingencytables has it
        ((1, 0, 0, 1), 0.0, -0.5734, 0.5734),  # from the tests of that package
    ],
)
def test_a_paired_interval_is_the_published_one(
    counts: tuple[int, int, int, int], difference: float, low: float, high: float
) -> None:
    found = compare_counts(*counts)
    assert (found.difference, found.low, found.high) == pytest.approx((difference, low, high), abs=6e-5)
    assert (found.count, found.only_row, found.only_reference) == (sum(counts), counts[1], counts[2])


@pytest.mark.parametrize(
    ("shares", "most"), [((0.8, 0.05, 0.05, 0.1), 0.997), ((0.6, 0.2, 0.1, 0.1), 0.965), ((0.3, 0.3, 0.1, 0.3), 0.965)]
)
def test_a_paired_interval_holds_the_truth_in_95_of_100_samples_or_some_more(
    shares: tuple[float, float, float, float], most: float
) -> None:
    """Over every table that 24 images can give, each weighed with its chance; more where few images differ."""
    count, held, total = 24, 0.0, 0.0
    truth = shares[1] - shares[2]
    for both, row, reference in itertools.product(range(count + 1), repeat=3):
        neither = count - both - row - reference
        if neither < 0:
            continue
        counts = (both, row, reference, neither)
        chance = math.exp(
            math.lgamma(count + 1)
            + sum(n * math.log(p) - math.lgamma(n + 1) for n, p in zip(counts, shares, strict=True))
        )
        total += chance
        if chance > 1e-9:
            found = compare_counts(*counts)
            held += chance * (found.low <= truth <= found.high)
    assert total == pytest.approx(1)
    assert 0.95 < held < most


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(0, 0, 1.0), (5, 0, 0.0625), (12, 2, 0.012939453125), (12, 19, 0.28104151505976915), (3, 9, 0.14599609375)],
)
def test_mcnemars_p_is_that_of_the_exact_binomial_test(first: int, second: int, expected: float) -> None:
    """As scipy 1.17.1 has it, ``binomtest(first, first + second, 0.5).pvalue``; and as every split of few shows."""
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(expected, rel=1e-12)
    total = first + second
    if 0 < total < 15:
        tosses = Counter(map(sum, itertools.product((0, 1), repeat=total)))
        as_uneven = sum(n for heads, n in tosses.items() if abs(2 * heads - total) >= abs(first - second))
        assert mcnemar(first, second) == pytest.approx(as_uneven / 2**total)


def test_mcnemars_p_of_thousands_is_no_overflow() -> None:
    assert mcnemar(2000, 2000) == 1.0
    assert 0 <= mcnemar(1000, 3000) < 1e-200


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (19, 41, 0.32056233976336046, 0.6125352873233052),
        (0, 10, 0.0, 0.27753279986288926),
        (44, 44, 0.9197043962415192, 1),
    ],
)
def test_an_interval_of_a_share_is_wilsons(correct: int, count: int, low: float, high: float) -> None:
    """As statsmodels 0.15.0 has it, ``proportion_confint(correct, count, method="wilson")``."""
    assert wilson(correct, count) == pytest.approx((low, high), rel=1e-12)


LABELS = Labels(name="test", names=("crane", "dog", "crane", "cat", "bird", "fish", "frog"), ids=())


def make_row(seed: int, count: int, *, noise: float = 0.0) -> Embedded:
    """Random images and classes; the two cranes are one."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Floats:
        return normalise(random.standard_normal(shape))

    images, head = draw(count, 6), draw(len(LABELS), 6)
    if noise:
        images = normalise(images + noise * np.random.default_rng(99).standard_normal(images.shape))
    head[2] = head[0]
    return Embedded(images=images, head=head, rule=ScoreRule(logit_scale=20.0))


def make_pool(truths: list[int | None], lost: int = 0) -> Pool:
    return Pool(paths=[f"{place}.jpg" for place in range(len(truths))], truths=truths, lost=lost, labels=LABELS)


def test_accuracy_counts_the_best_k_and_images_that_were_lost_as_wrong() -> None:
    """Against a plain loop; of two classes of one name the first comes first."""
    count = 700  # more than are scored at once
    row = make_row(1, count)
    truths: list[int | None] = [None if place % 5 == 0 else place % 7 for place in range(count)]
    found = {item.k: item for item in measure_accuracy(find_correct(row, make_pool(truths, lost=3)))}
    expected = Counter({1: 0, 5: 0})
    for image, truth in zip(row.images, truths, strict=True):
        order = sorted(range(7), key=lambda place: (-float(image.astype(float) @ row.head[place]), place))
        for k in expected:
            expected[k] += truth in order[:k]
    known = sum(truth is not None for truth in truths) + 3
    assert {k: (item.correct, item.count) for k, item in found.items()} == {k: (n, known) for k, n in expected.items()}
    assert measure_accuracy(find_correct(row, make_pool([None] * count))) == ()


def test_agreement_is_that_of_a_plain_loop_over_images_and_classes() -> None:
    count = 530
    row, reference = make_row(2, count, noise=0.3), make_row(2, count)
    pool = make_pool([0] * count)
    found = measure_agreement(row, reference, pool, "the reference")
    assert found is not None
    cosines, changes, same = [], [], 0
    for own, other in zip(row.images.astype(float), reference.images.astype(float), strict=True):
        cosines.append(float(own @ other))
        scores = []
        for image in (own, other):
            weights = [math.exp(20 * float(image @ text)) for text in row.head.astype(float)]
            scores.append([weight / sum(weights) for weight in weights])
        changes.append(max(abs(a - b) for a, b in zip(*scores, strict=True)))
        same += scores[0].index(max(scores[0])) == scores[1].index(max(scores[1]))
    ordered = sorted(cosines)
    assert (found.cosine_min, found.cosine_p1) == pytest.approx((ordered[0], ordered[5]), abs=1e-6)  # 6th of 530
    assert found.cosine_median == pytest.approx((ordered[264] + ordered[265]) / 2, abs=1e-6)
    assert found.score_change_max == pytest.approx(max(changes), abs=1e-5)
    assert (found.top1.correct, found.top1.count) == (same, count)
    assert same < count
    assert found.head_cosine_min == pytest.approx(1)
    worst = sorted(range(count), key=lambda place: cosines[place])
    assert [item.path for item in found.worst] == [f"{place}.jpg" for place in worst[:12]]
    assert all(item.row_class != item.reference_class for item in found.changed)
    assert [item.score_change for item in found.changed] == sorted(
        (c.score_change for c in found.changed), reverse=True
    )
    assert measure_agreement(row, reference, make_pool([]), "the reference") is None


def test_a_row_agrees_with_itself_wholly() -> None:
    row = make_row(3, 40)
    found = measure_agreement(row, row, make_pool([None] * 40), "itself")
    assert found is not None
    assert (found.top1.share, found.score_change_max, found.changed) == (1.0, 0.0, ())
    assert found.cosine_min == pytest.approx(1)


def test_gates_are_read_and_wrong_ones_refused() -> None:
    assert parse_gates("top1=-0.5, agreement=0.99") == {"top1": -0.5, "agreement": 0.99}
    for text in ("top1", "top1=", "top1=high", "top1=nan", "top1=1,top1=2", ""):
        with pytest.raises(UsageError, match=r"allowed: names and numbers, as in top1=-0\.5,agreement=0\.99"):
            parse_gates(text)
    with pytest.raises(
        UnknownNameError, match=r"unknown gate 'top2': .*known: top1, top5, agreement, cosine, throughput"
    ):
        parse_gates("top2=1")


def rows_by_name() -> dict[str, Row]:
    return {row.name: row for row in make_comparison().rows}


def test_a_gate_is_kept_at_its_bound_and_missed_below_it_or_without_a_figure() -> None:
    """Five of a thousand lost are -0.5 points, to the last bit, though 0.892 - 0.897 is not."""
    row = rows_by_name()["openvino cpu int8"]
    lost = dataclasses.replace(row.differences[0], only_row=1, only_reference=6, difference=0.892 - 0.897)
    row = dataclasses.replace(row, differences=(lost,))
    results = check_gates((row,), {"top1": -0.5, "top5": -1.0, "agreement": 0.99, "cosine": 0.992, "throughput": 2.2})
    assert [(item.gate, item.value, item.kept) for item in results] == [
        ("top1", -0.5, True),
        ("top5", None, False),
        ("agreement", 0.99, True),
        ("cosine", 0.991, False),
        ("throughput", pytest.approx(160 / 70), True),
    ]


def test_gates_pass_over_the_reference_and_what_is_not_available() -> None:
    results = check_gates(tuple(rows_by_name().values()), {"agreement": 0.5})
    assert [item.row for item in results] == ["openvino cpu int8", "onnxruntime cpu f32"]


def test_the_throughput_gate_takes_the_load_where_a_row_is_least_quicker() -> None:
    row = rows_by_name()["openvino cpu int8"]
    fast, slow = row.speeds[0], dataclasses.replace(row.speeds[0], batch_size=8)
    assert slow.ratio is not None
    slow = dataclasses.replace(slow, ratio=dataclasses.replace(slow.ratio, median=0.9))
    for speeds, value in (((fast, slow), 0.9), ((fast, dataclasses.replace(slow, ratio=None)), None), ((), None)):
        (result,) = check_gates((dataclasses.replace(row, speeds=speeds),), {"throughput": 1})
        assert (result.value, result.kept) == (value, False)


def test_the_front_holds_what_nothing_beats() -> None:
    """Equal rows beat neither; a row without a figure is neither on the front nor off it."""
    rows, axis = mark_front(make_comparison().rows)
    assert axis == "top1"
    assert [row.pareto for row in rows] == [False, True, True, None]
    twin = dataclasses.replace(rows[1], name="twin")
    assert [row.pareto for row in mark_front((*rows, twin))[0]] == [False, True, True, None, True]


def test_without_truth_the_front_goes_by_agreement_and_each_model_has_its_own() -> None:
    """Agreement with one's own reference says nothing between models: a slow one is not beaten by a fast other one."""
    rows = [dataclasses.replace(row, accuracy=(), differences=()) for row in make_comparison().rows[:3]]
    slower = [
        dataclasses.replace(
            row,
            name=f"other {row.name}",
            asked=dataclasses.replace(row.asked, model="other"),
            speeds=tuple(
                dataclasses.replace(
                    speed,
                    samples_per_s=dataclasses.replace(speed.samples_per_s, median=speed.samples_per_s.median / 100),
                )
                for speed in row.speeds
            ),
        )
        for row in rows
    ]
    marked, axis = mark_front((*rows, *slower))
    assert axis == "agreement"
    assert [row.pareto for row in marked] == [True, True, False] * 2  # the third agrees as the second does, but slower
    assert mark_front(())[1] is None


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 8])
def test_rounds_hold_every_row_once_and_begin_and_go_on_differently(rounds: int) -> None:
    rows = ["a", "b", "c", "d"]
    orders = [order_round(rows, number, rounds) for number in range(rounds)]
    assert all(sorted(order) == rows for order in orders)
    firsts = Counter(order[0] for order in orders)
    assert max(firsts.values()) - min(firsts.values()) <= 1 or len(firsts) == rounds
    assert len(firsts) == min(rounds, len(rows))
    if rounds > 1:
        assert orders[0][1:] != orders[1][1:]
    assert order_round([], 0, rounds) == []


def test_a_comparison_reads_back_as_it_was_written() -> None:
    found = make_comparison()
    assert comparison_from_json(comparison_to_json(found), origin="here") == found
