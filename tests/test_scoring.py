"""Scores are what the formulas say, also at the edges."""

from __future__ import annotations

import numpy as np

from clipworks import scoring
from clipworks.bundle.card import ScoreRule


def test_rows_are_scaled_to_unit_length_and_zeros_stay() -> None:
    rows = scoring.normalise(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert rows.dtype == np.float32
    assert np.allclose(rows, np.array([[0.6, 0.8], [0.0, 0.0]]))


def test_no_rows_stay_no_rows() -> None:
    assert scoring.normalise(np.empty((0, 5), dtype=np.float32)).shape == (0, 5)


def test_softmax_survives_scales_that_overflow_a_plain_exponential() -> None:
    probabilities = scoring.softmax(np.array([1.0, 0.5, -1.0], dtype=np.float32), 10_000.0)
    assert np.isfinite(probabilities).all()
    assert probabilities[0] == 1.0


def test_softmax_matches_its_definition() -> None:
    cosines = np.array([[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], dtype=np.float32)
    weights = np.exp(cosines.astype(np.float64) * 10)
    assert np.allclose(scoring.softmax(cosines, 10.0), weights / weights.sum(axis=1, keepdims=True))


def test_ties_keep_the_given_order() -> None:
    assert scoring.rank(np.array([0.5, 0.9, 0.5, 0.9, 0.1])).tolist() == [1, 3, 0, 2, 4]
    assert scoring.rank(np.array([0.5, 0.9, 0.5, 0.9, 0.1]), 3).tolist() == [1, 3, 0]


def test_a_rule_of_softmax_is_the_softmax() -> None:
    cosines = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
    expected = scoring.softmax(cosines, 10.0)
    assert np.array_equal(scoring.score(cosines, ScoreRule(logit_scale=10.0)), expected)


def test_a_rule_of_sigmoid_takes_each_text_by_itself() -> None:
    cosines = np.random.default_rng(0).uniform(-1, 1, (5, 7)).astype(np.float32)
    rule = ScoreRule(kind="sigmoid", logit_scale=117.3, logit_bias=-12.9)
    expected = 1 / (1 + np.exp(-(cosines.astype(np.float64) * 117.3 - 12.9)))
    found = scoring.score(cosines, rule)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(scoring.score(cosines[:, 2:4], rule), found[:, 2:4])


def test_a_sigmoid_survives_logits_that_overflow_a_plain_exponential() -> None:
    rule = ScoreRule(kind="sigmoid", logit_scale=10_000.0)
    assert scoring.score(np.array([1.0, 0.0, -1.0], dtype=np.float32), rule).tolist() == [1.0, 0.5, 0.0]
