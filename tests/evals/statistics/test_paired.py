"""Paired comparisons against values by hand and scipy's, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from evals.statistics import mcnemar, paired_difference, tango, win_rate, wins
from tests.support.releases import cluster_sizes, differences

pytestmark = pytest.mark.unit


def constrained_likelihood_bound(gained: int, lost: int, n: int, z: float) -> float:
    """Tango's lower bound by its definition: the nuisance parameter maximizes the likelihood at the difference."""

    def score(difference: float) -> float:
        def negative(p_lost: float) -> float:
            p_gained = p_lost + difference
            rest = 1 - p_gained - p_lost
            if min(p_gained, p_lost, rest) <= 0:
                return 1e9
            return -(gained * math.log(p_gained) + lost * math.log(p_lost) + (n - gained - lost) * math.log(rest))

        low, high = max(0.0, -difference), (1 - difference) / 2
        p_lost = optimize.minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        variance = (2 * p_lost + difference - difference**2) / n
        return float(((gained - lost) / n - difference) / math.sqrt(variance) - z)

    return float(optimize.brentq(score, -0.9, (gained - lost) / n - 1e-6))


@pytest.mark.parametrize("gained, lost, n", [(12, 3, 60), (3, 12, 60), (5, 9, 200), (1, 1, 25)])
def test_tango_maximizes_the_likelihood_under_its_hypothesis(gained: int, lost: int, n: int) -> None:
    assert tango(gained, lost, n)[0] == pytest.approx(constrained_likelihood_bound(gained, lost, n, 1.959964), abs=1e-4)


def test_tango_is_symmetric_and_stays_wide_without_changes() -> None:
    low, high = tango(0, 0, 40)
    # With nothing discordant, Tango's interval is -+ z^2 / (n + z^2).
    assert high == pytest.approx(3.8415 / (40 + 3.8415), abs=1e-4)
    assert low == pytest.approx(-high, abs=1e-6)
    gained = tango(12, 3, 60)
    assert tango(3, 12, 60) == pytest.approx((-gained[1], -gained[0]), abs=1e-6)


def test_mcnemar_is_exact() -> None:
    assert mcnemar(0, 4) == pytest.approx(1 / 16)  # all four of four fair coins
    assert mcnemar(3, 12) == pytest.approx(stats.binomtest(12, 15, alternative="greater").pvalue)
    assert mcnemar(0, 0) == 1.0
    worse = paired_difference([0.0] * 4 + [1.0] * 40, [1.0] * 44)
    assert worse.p_worse == pytest.approx(0.0625)


def test_a_clustered_bound_by_hand() -> None:
    # Three clusters of one item with differences 0, -1, 0, and one more that lost: mean -1/2, jackknife variance of
    # four equal clusters s^2 / 4 with s^2 = 1/3, t(0.95, 3) = 2.3534.
    clustered = paired_difference([1, 0, 1], [1, 1, 1], ["a", "b", "c"], weights=[2.0, 2.0, 2.0], alpha=0.1)
    assert clustered.low == pytest.approx(-0.5 - 2.3534 * math.sqrt(1 / 12), abs=1e-3)
    # For the upper bound one more that won: 0, -1, 0, 1: mean 0, s^2 = 2/3.
    assert clustered.high == pytest.approx(2.3534 * math.sqrt(1 / 6), abs=1e-3)
    assert clustered.value == pytest.approx(-1 / 3)


def test_clusters_of_one_item_are_independent_items() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random(100) < 0.7).astype(float).tolist(), (rng.random(100) < 0.7).astype(float).tolist()
    assert paired_difference(a, b, list(range(100))) == paired_difference(a, b)


def test_continuous_differences_are_close_to_students_t_with_many_items() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(2.0, 0.3, size=(2, 2000))
    bound = paired_difference(a.tolist(), b.tolist(), alpha=0.1)
    reference = stats.ttest_rel(a, b).confidence_interval(0.9)
    # The cluster that is added lowers the bound by the largest change over n: below 2 / 2,000.
    assert bound.low == pytest.approx(reference.low, abs=2e-3)
    assert bound.numbers()[1] < reference.low


@pytest.mark.parametrize("a, b", [([0.5] * 30, [0.5] * 30), ([1.5], [1.0]), ([2.0, 2.0], [2.0, 2.0])])
def test_nothing_that_varies_is_no_certainty(a: list[float], b: list[float]) -> None:
    same = paired_difference(a, b)
    if max(a) <= 1 and len(a) > 1:  # shares: an item may change by one, seen or not
        assert same.numbers()[1] < -1 / len(a)
    else:
        assert (same.low, same.high) == (None, None)


def test_equal_drops_do_not_pass_by_their_lack_of_variance() -> None:
    # Two documents, both worse by 0.0999: once a PASS at a margin of 0.1, with an interval of no width.
    both = paired_difference([1.0, 1.0], [1.0999, 1.0999], alpha=0.05)
    assert both.low is None or both.low < -0.1


@pytest.mark.parametrize("sizes", ["one", "ten", "uniform", "skewed"])
@pytest.mark.parametrize("clusters", [20, 60])
def test_a_drop_of_the_margin_passes_at_most_alpha(sizes: str, clusters: int) -> None:
    """A small version of tests/simulations/test_error_rates.py."""
    rng, passes = np.random.default_rng(clusters), 0
    for _ in range(400):
        size = cluster_sizes(sizes, clusters, rng)
        d = differences(size, lost=0.08, gained=0.03, together=0.5, rng=rng)
        labels = np.repeat(np.arange(clusters), size).tolist()
        bound = paired_difference((d > 0).astype(float).tolist(), (d < 0).astype(float).tolist(), labels, alpha=0.1)
        passes += bound.low is not None and bound.low > -0.05
    assert passes / 400 <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 400)


def test_win_rate_counts_ties_half() -> None:
    assert wins([1.0, 0.5, 0.2], [0.5, 0.5, 0.9]) == [1.0, 0.5, 0.0]
    assert win_rate([1.0, 1.0, 0.0, 0.5], [0.0, 0.0, 1.0, 0.5]).value == pytest.approx(0.625)


def test_the_interval_of_a_win_rate_holds_and_ties_make_it_narrower() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(500):
        outcomes = rng.choice([1.0, 0.0, -1.0], size=200, p=[0.3, 0.5, 0.2])
        low, high = win_rate(outcomes.tolist(), [0.0] * 200).numbers()[1:]
        inside += low <= 0.55 <= high
    assert 0.92 <= inside / 500 <= 0.98
    decided, tied = win_rate([1.0] * 60 + [-1.0] * 40, [0.0] * 100), win_rate([1.0] * 20 + [0.0] * 80, [0.0] * 100)
    assert decided.value == tied.value == 0.6
    assert tied.numbers()[2] - tied.numbers()[1] < decided.numbers()[2] - decided.numbers()[1]


outcome_pairs = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=2, max_size=60)


@settings(max_examples=60, deadline=None)
@given(outcome_pairs, st.integers(1, 5))
def test_exchanging_the_sides_mirrors_the_interval(pairs: list[tuple[float, float]], size: int) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    labels = [i // size for i in range(len(pairs))]
    one, other = paired_difference(a, b, labels), paired_difference(b, a, labels)
    if one.low is None:
        assert other.low is None
        return
    assert one.numbers() == pytest.approx([-x for x in (other.numbers()[i] for i in (0, 2, 1))], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(outcome_pairs, st.integers(1, 5), st.data())
def test_losing_one_more_item_never_raises_the_bound(
    pairs: list[tuple[float, float]], size: int, data: st.DataObject
) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    place = data.draw(st.integers(0, len(pairs) - 1))
    before, after = paired_difference(a, b), paired_difference([*a[:place], 0.0, *a[place + 1 :]], b)
    assert after.numbers()[1] <= before.numbers()[1] + 1e-6
