"""Intervals and tests against known values, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evals.statistics import estimate, holm, paired_difference, tango, wilson, win_rate, wins

pytestmark = pytest.mark.unit


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_tango_is_symmetric_and_stays_wide_without_changes() -> None:
    low, high = tango(0, 0, 40)
    # With nothing discordant, Tango's interval is -+ z^2 / (n + z^2).
    assert high == pytest.approx(3.8415 / (40 + 3.8415), abs=1e-4)
    assert low == pytest.approx(-high, abs=1e-6)
    gained = tango(12, 3, 60)
    assert tango(3, 12, 60) == pytest.approx((-gained[1], -gained[0]), abs=1e-6)
    assert gained[0] < 0.15 < gained[1]


def test_tango_covers_the_true_difference() -> None:
    generator = np.random.default_rng(0)
    cells = (0.12, 0.05, 0.83)  # gained, lost, unchanged
    inside = 0
    for gained, lost, _ in generator.multinomial(80, cells, size=2000):
        low, high = tango(int(gained), int(lost), 80)
        inside += low <= 0.07 <= high
    assert 0.93 <= inside / 2000 <= 0.97


def test_a_failed_measurement_is_missing_and_not_zero() -> None:
    found = estimate([1.0, None, 1.0, math.nan], share=True)
    assert (found.value, found.n, found.missing) == (1.0, 2, 2)
    nothing = estimate([None, None], share=True)
    assert (nothing.value, nothing.low, nothing.n, nothing.missing) == (None, None, 0, 2)


def test_clusters_widen_the_interval() -> None:
    values = [float(i % 2) for i in range(40) for _ in range(5)]  # five copies of each of forty answers
    _, low, high = estimate(values, share=True).numbers()
    _, low_together, high_together = estimate(values, clusters=[i // 5 for i in range(200)], share=True).numbers()
    assert (high_together - low_together) / (high - low) == pytest.approx(math.sqrt(5), rel=0.1)


def test_weighted_mean_is_that_of_the_tokens() -> None:
    found = estimate([1.0, 3.0], weights=[3.0, 1.0], share=False)
    assert found.value == pytest.approx(1.5)


def test_student_interval_covers_the_mean() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(1000):
        _, low, high = estimate(list(generator.normal(2.0, 1.0, 12)), share=False).numbers()
        inside += low <= 2.0 <= high
    assert 0.93 <= inside / 1000 <= 0.97


def test_win_rate_counts_ties_half() -> None:
    assert wins([1.0, 0.5, 0.2], [0.5, 0.5, 0.9]) == [1.0, 0.5, 0.0]
    assert win_rate([1.0, 1.0, 0.0, 0.5], [0.0, 0.0, 1.0, 0.5]).value == pytest.approx(0.625)


def test_the_interval_of_a_win_rate_holds_and_ties_make_it_narrower() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        outcomes = rng.choice([1.0, 0.0, -1.0], size=200, p=[0.3, 0.5, 0.2])
        found = win_rate(list(outcomes), [0.0] * 200)
        low, high = found.numbers()[1:]
        inside += low <= 0.55 <= high
    assert 0.93 <= inside / 1000 <= 0.97
    decided, tied = win_rate([1.0] * 60 + [-1.0] * 40, [0.0] * 100), win_rate([1.0] * 20 + [0.0] * 80, [0.0] * 100)
    assert decided.value == tied.value == 0.6
    assert tied.numbers()[2] - tied.numbers()[1] < decided.numbers()[2] - decided.numbers()[1]


def test_p_value_of_a_drop_is_mcnemars() -> None:
    found = paired_difference([1.0] * 3 + [0.0] * 12 + [1.0] * 45, [0.0] * 3 + [1.0] * 12 + [1.0] * 45)
    assert found.p_worse == pytest.approx(0.01007, abs=1e-4)  # z = -9 / sqrt(15)


def test_continuous_differences_take_students_t() -> None:
    found = paired_difference([0.5, 1.5, 2.5], [0.0, 2.0, 1.0])
    assert found.value == pytest.approx(0.5)
    # differences 0.5, -0.5, 1.5: standard error 1 / sqrt(3), t(0.975, 2) = 4.3027
    assert found.high == pytest.approx(0.5 + 4.3027 / math.sqrt(3), abs=1e-3)


def test_holm_steps_down_and_stops() -> None:
    assert holm([0.01, 0.04, 0.03], 0.05) == [True, False, False]
    assert holm([0.01, 0.02, 0.03], 0.05) == [True, True, True]
