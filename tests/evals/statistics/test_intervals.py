"""Intervals of means against published and hand-derived values, and against simulation."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.statistics import Estimate, estimate, wilson

pytestmark = pytest.mark.unit


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_wilson_with_few_degrees_of_freedom_takes_students_quantile() -> None:
    # t(0.975, 4) = 2.7764: upper end at 0 of n is t^2 / (n + t^2).
    assert wilson(0.0, 20, degrees=4)[1] == pytest.approx(2.7764**2 / (20 + 2.7764**2), abs=1e-4)


def test_a_failed_measurement_is_missing_and_not_zero() -> None:
    measured = estimate([1.0, None, 1.0, math.nan], share=True)
    assert (measured.value, measured.n, measured.missing) == (1.0, 2, 2)
    nothing = estimate([None, None], share=True)
    assert (nothing.value, nothing.low, nothing.n, nothing.missing) == (None, None, 0, 2)


@pytest.mark.parametrize(
    "values, clusters, share",
    [
        ([0.7], None, False),
        ([1.0], None, True),
        ([0.4, 0.4, 0.4], None, False),
        ([0.4, 0.4, 0.4], None, True),
        ([1.0, 0.0, 1.0], ["a", "a", "a"], True),
        ([1.0, 2.0], ["a", "a"], False),
    ],
)
def test_too_little_for_an_interval_gives_none_and_strict_json(
    values: list[float], clusters: list[str] | None, share: bool
) -> None:
    measured = estimate(values, clusters=clusters, share=share)
    assert (measured.low, measured.high) == (None, None)
    assert measured.value == pytest.approx(np.mean(values))
    json.dumps(asdict(measured), allow_nan=False)
    with pytest.raises(ValueError, match="too little"):
        measured.numbers()


def test_equal_outcomes_keep_wilsons_interval() -> None:
    assert estimate([1.0] * 20, share=True).low == pytest.approx(1 - 0.1611, abs=1e-4)
    # 20 clusters of five equal outcomes count as 20 items, with Student's quantile for 19 degrees: 2.0930.
    clustered = estimate([1.0] * 100, clusters=[i // 5 for i in range(100)], share=True)
    assert clustered.low == pytest.approx(1 - 2.0930**2 / (20 + 2.0930**2), abs=1e-4)


def test_clusters_widen_the_interval() -> None:
    values = [float(i % 2) for i in range(40) for _ in range(5)]  # five copies of each of forty answers
    _, low, high = estimate(values, share=True).numbers()
    _, low_together, high_together = estimate(values, clusters=[i // 5 for i in range(200)], share=True).numbers()
    assert (high_together - low_together) / (high - low) == pytest.approx(math.sqrt(5), rel=0.1)


def test_weighted_mean_is_that_of_the_tokens() -> None:
    assert estimate([1.0, 3.0], weights=[3.0, 1.0], share=False).value == pytest.approx(1.5)


def test_one_heavy_document_leaves_few_degrees_of_freedom() -> None:
    light = estimate([0.1 * i for i in range(30)], weights=[1.0] * 30, share=False)
    heavy = estimate([0.1 * i for i in range(30)], weights=[500.0] + [1.0] * 29, share=False)
    assert heavy.numbers()[2] - heavy.numbers()[1] > 5 * (light.numbers()[2] - light.numbers()[1])


def test_students_interval_by_hand() -> None:
    # 1, 2, 3: standard error 1 / sqrt(3), t(0.975, 2) = 4.3027.
    measured = estimate([1.0, 2.0, 3.0], share=False)
    assert measured.high == pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-3)


def test_the_interval_covers_the_mean_of_a_policy_drawn_anew() -> None:
    """Prompts and answers are both drawn anew: a prompt has its own chance of a good answer, four answers each."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(500):
        chances = np.repeat(rng.beta(3.0, 2.0, size=150), 4)  # mean 0.6
        answers = (rng.random(600) < chances).astype(float).tolist()
        _, low, high = estimate(answers, clusters=[i // 4 for i in range(600)], share=True).numbers()
        inside += low <= 0.6 <= high
    assert 0.925 <= inside / 500 <= 0.98


@pytest.mark.parametrize("clusters", [5, 10, 20])
def test_few_clusters_keep_the_level(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    inside = 0
    for _ in range(400):
        chances = np.repeat(rng.beta(0.7 * 7 / 3, 0.3 * 7 / 3, size=clusters), 10)  # mean 0.7, intraclass 0.3
        answers = (rng.random(len(chances)) < chances).astype(float).tolist()
        _, low, high = estimate(answers, clusters=[i // 10 for i in range(len(chances))], share=True).numbers()
        inside += low <= 0.7 <= high
    assert inside / 400 >= 0.925


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=30),
    st.booleans(),
    st.integers(1, 4),
)
def test_an_interval_holds_its_mean_and_is_finite(values: list[float | None], share: bool, size: int) -> None:
    measured = estimate(values, clusters=[i // size for i in range(len(values))], share=share)
    assert isinstance(measured, Estimate)
    assert measured.n + measured.missing == len(values)
    json.dumps(asdict(measured), allow_nan=False)
    if measured.low is not None:
        value, low, high = measured.numbers()
        assert low - 1e-9 <= value <= high + 1e-9
