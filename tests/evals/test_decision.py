"""The decision on one metric: outcomes, their reasons, and that the error rate is what it states."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.decision import Row, Rule, decide
from evals.pairing import Pairing
from tests.support.releases import differences
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
SHARE = Rule("tax.cloze.accuracy", "cloze", 0.05)
LOSS = Rule("tax.text.bits_per_byte", "bits", 0.1, "lower", share=False)
WINS = Rule("preference.prompts.utility", "preferred", 0.05, share=False, wins=True)


def outcomes(unchanged: int, gained: int = 0, lost: int = 0) -> Pairing:
    """0/1 outcomes; of the unchanged items half are right."""
    same = [float(i % 2) for i in range(unchanged)]
    return Pairing([*same, *[1.0] * gained, *[0.0] * lost], [*same, *[0.0] * gained, *[1.0] * lost])


def decided(pairing: Pairing, rule: Rule = SHARE, alpha: float = 0.05) -> Row:
    return decide(rule, pairing, alpha)


def test_pass_needs_the_drop_of_the_margin_excluded() -> None:
    row = decided(outcomes(960, 20, 20))
    assert (row.outcome, row.reason, row.n, row.changed) == ("PASS", "", 1000, 0.04)
    assert row.low is not None
    assert row.low > -0.05
    assert decided(outcomes(48, 1, 1)).outcome == "INCONCLUSIVE"  # the same shares of fewer items


def test_fail_needs_a_drop_and_more_than_the_margin() -> None:
    clear = decided(outcomes(900, 0, 100))
    assert clear.outcome == "FAIL"
    assert "worse by 0.1" in clear.reason
    small = decided(outcomes(975, 0, 25))  # surely worse, by less than the margin: within what a release may lose
    assert small.high is not None
    assert small.high < 0
    assert small.outcome == "PASS"
    assert decided(outcomes(40, 1, 5)).outcome == "INCONCLUSIVE"  # worse by 0.087, by chance perhaps


@pytest.mark.parametrize("count", [1, 10, 19])
def test_fewer_than_twenty_items_decide_nothing(count: int) -> None:
    assert "at least 20" in decided(outcomes(count)).reason
    assert decided(outcomes(0, lost=count)).outcome == "INCONCLUSIVE"


def test_many_items_in_few_clusters_decide_nothing() -> None:
    pairing = outcomes(480, 10, 10)
    clustered = Pairing(pairing.candidate, pairing.baseline, clusters=[i % 19 for i in range(500)])
    assert decided(clustered).reason == "only 500 items in 19 clusters: at least 20 are needed"


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_a_score_that_never_varies_decides_nothing(value: float) -> None:
    row = decided(Pairing([value] * 500, [value] * 500))
    assert row.outcome == "INCONCLUSIVE"
    assert "same score" in row.reason


def test_everything_lost_fails_though_neither_side_varies() -> None:
    assert decided(Pairing([0.0] * 500, [1.0] * 500)).outcome == "FAIL"


def test_lower_is_better_where_declared() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(3.0, 0.1, 300)
    better = decided(Pairing((base - 0.2 + rng.normal(0, 0.01, 300)).tolist(), base.tolist()), LOSS)
    assert (better.outcome, better.difference) == ("PASS", pytest.approx(0.2, abs=0.01))
    worse = decided(Pairing((base + 0.2 + rng.normal(0, 0.01, 300)).tolist(), base.tolist()), LOSS)
    assert (worse.outcome, worse.difference) == ("FAIL", pytest.approx(-0.2, abs=0.01))
    toxic = Rule("toxicity.plain.toxic", "toxic", 0.05, "lower")
    assert decided(Pairing([1.0] * 100 + [0.0] * 400, [0.0] * 500), toxic).outcome == "FAIL"


def test_a_win_rate_is_compared_with_one_half() -> None:
    ties = decided(Pairing([0.2, 0.4] * 300, [0.2, 0.4] * 300), WINS)
    assert (ties.outcome, ties.difference) == ("PASS", 0.0)
    lost = decided(Pairing([0.1, 0.4] * 300, [0.2, 0.4] * 300), WINS)
    # Half of the items lost, half tied: win rate 1/4.
    assert (lost.outcome, lost.difference) == ("FAIL", -0.25)


@pytest.mark.parametrize("missing", [20, 45, 49])
def test_missing_items_count_against_the_candidate(missing: int) -> None:
    """A candidate that crashes on just the hard items: once up to 5 % missing were left out, and it passed."""
    same = [float(i % 2) for i in range(1000 - missing)]
    row = decided(Pairing([*same, *[None] * missing], [*same, *[1.0] * missing], missing_candidate={"500": missing}))
    assert row.worst_low is not None
    if missing == 20:  # even if all are wrong, the drop of the margin is excluded
        assert row.outcome == "PASS"
    else:
        assert (row.outcome, row.missing_candidate) == ("INCONCLUSIVE", {"500": missing})
        assert f"{missing} items missing" in row.reason


def test_missing_on_the_baseline_counts_as_right() -> None:
    same = [float(i % 2) for i in range(940)]
    assert "60 items missing" in decided(Pairing([*same, *[0.0] * 60], [*same, *[None] * 60])).reason


def test_missing_unbounded_scores_take_the_worst_that_occurred() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(3.0, 0.5, 400)
    values: list[float | None] = (base + rng.normal(0, 0.02, 400)).tolist()
    assert decided(Pairing(values, base.tolist()), LOSS).outcome == "PASS"
    holes = [None if i % 20 == 0 else v for i, v in enumerate(values)]
    row = decided(Pairing(holes, base.tolist()), LOSS)
    # A missing document costs its distance to the worst of all, about 1.5: 5 % of it is 0.075.
    assert row.worst_low == pytest.approx(-0.1, abs=0.03)
    assert row.low is not None
    assert row.low > -0.02


def test_all_missing_is_inconclusive() -> None:
    row = decided(Pairing([None] * 50, [1.0] * 50, missing_candidate={"refused": 50}))
    assert (row.outcome, row.reason) == ("INCONCLUSIVE", "no item was measured on both sides")


def test_unequal_item_sets_are_inconclusive_whatever_they_show() -> None:
    same = [float(i % 2) for i in range(600)]
    row = decided(Pairing([*same, None], [*same, 1.0], only_baseline=1))
    assert (row.outcome, row.only_baseline) == ("INCONCLUSIVE", 1)
    assert "1 items are on one side only" in row.reason


def test_the_number_of_items_needed_follows_the_changes() -> None:
    few, many = decided(outcomes(95, 3, 2)), decided(outcomes(70, 15, 15))
    assert few.items_needed is not None
    assert many.items_needed is not None
    # (1.645 + 0.842)^2 * 0.3 / 0.05^2 = 742, somewhat more as Tango's variance at the margin is larger.
    assert 742 <= many.items_needed <= 850
    assert few.items_needed < many.items_needed
    copies = outcomes(70, 15, 15)
    clustered = decided(
        Pairing([v for v in copies.candidate for _ in range(5)], [v for v in copies.baseline for _ in range(5)],
                clusters=[i // 5 for i in range(500)])
    )  # fmt: skip
    assert clustered.items_needed == pytest.approx(5 * many.items_needed, rel=0.1)


def test_shares_outside_their_range_are_refused() -> None:
    with pytest.raises(UserError, match="outside"):
        decided(Pairing([55.0] * 50, [54.0] * 50))


@pytest.mark.parametrize("together, size", [(0.0, 1), (0.5, 5)])
def test_the_error_and_the_power_are_as_stated(together: float, size: int) -> None:
    """A small version of tests/simulations/test_releases.py."""
    rng, outcomes_of = np.random.default_rng(5), {}
    for drop in (0.0, 0.05, 0.12):
        counts = {"PASS": 0, "FAIL": 0, "INCONCLUSIVE": 0}
        for _ in range(150):
            sizes = [size] * 400
            d = differences(sizes, 0.04 + drop, 0.04, together, rng)
            labels = np.repeat(np.arange(400), sizes).tolist() if size > 1 else None
            filler = rng.integers(0, 2, len(d)).astype(float)  # unchanged items vary
            a, b = np.where(d == 0, filler, d > 0), np.where(d == 0, filler, d < 0)
            counts[decided(Pairing(a.tolist(), b.tolist(), clusters=labels)).outcome] += 1
        outcomes_of[drop] = counts
    assert outcomes_of[0.0]["PASS"] >= 0.8 * 150
    assert outcomes_of[0.05]["PASS"] <= 0.05 * 150 + 3 * math.sqrt(150 * 0.05 * 0.95)
    assert outcomes_of[0.12]["FAIL"] >= 0.8 * 150
    assert outcomes_of[0.12]["PASS"] == 0


scores = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, None]), st.sampled_from([0.0, 0.5, 1.0, None])), min_size=1, max_size=80
)


@settings(max_examples=80, deadline=None)
@given(scores, st.integers(1, 3))
def test_turning_a_measured_item_into_a_missing_one_never_opens_the_gate(
    pairs: list[tuple[float | None, float | None]], size: int
) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    clusters = [i // size for i in range(len(pairs))]
    row = decided(Pairing(a, b, clusters=clusters))
    assert row.outcome in ("PASS", "FAIL", "INCONCLUSIVE")
    assert bool(row.reason) == (row.outcome != "PASS")
    filled = [0.0 if v is None else v for v in a], [1.0 if v is None else v for v in b]
    if row.outcome == "PASS":
        assert decided(Pairing(*filled, clusters=clusters)).low is not None
        worst = decided(Pairing(*filled, clusters=clusters)).low
        assert worst is not None
        assert worst > -SHARE.margin
