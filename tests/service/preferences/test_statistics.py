from __future__ import annotations

import numpy as np
import pytest

from service.preferences.answers import Changes
from service.preferences.statistics import (
    agreement,
    fit_davidson,
    mean_estimate,
    strengths,
    summarize,
    votes_of,
)
from training.artifacts.comparisons import Comparison, Response

pytestmark = pytest.mark.unit
PROMPT = ({"role": "user", "content": "?"},)


def vote(
    number: int, outcome: int, *, labeler: str = "a", prompt: str = "p", shown: tuple[int, int] = (0, 1), **meta: bool
) -> Comparison:
    """Checkpoint X against Y: outcome 1 when X is better, 0 tie, -1 when Y is."""
    ranks = {1: (1, 2), 0: (1, 1), -1: (2, 1)}[outcome]
    responses = (Response("x", "X"), Response("y", "Y"))
    return Comparison(
        str(number), PROMPT, responses, ranks=ranks, shown=shown, labeler=labeler, prompt_id=prompt, meta=meta
    )


def test_votes_follow_the_order_on_screen() -> None:
    votes = votes_of([vote(1, 1), vote(2, 1, shown=(1, 0)), vote(3, 0)], across=True)
    assert [votes.names[i] for i in votes.first] == ["X", "Y", "X"]
    assert votes.outcome.tolist() == [1.0, 0.0, 0.5]


def test_rankings_give_every_pair_and_only_pairs_across_checkpoints_compare_them() -> None:
    responses = (Response("1", "X"), Response("2", "Y"), Response("3", "Y"), Response("4"))
    row = Comparison("r", PROMPT, responses, ranks=(1, 2, 2, 4), shown=(2, 1, 0, 3), labeler="a")
    assert len(votes_of([row], across=False).outcome) == 6
    votes = votes_of([row], across=True)
    assert [votes.names[i] for i in votes.first] == ["Y", "Y"]
    assert votes.outcome.tolist() == [0.0, 0.0]


def test_a_duel_counts_both_sides() -> None:
    rows = [vote(i, 1, prompt=f"p{i}", shown=(0, 1) if i % 2 else (1, 0)) for i in range(6)]
    rows += [vote(10, 0, prompt="p10"), vote(11, -1, prompt="p11")]
    changes = [Changes("a", 1, 2), Changes("b", 0, 1)]
    summary = summarize(rows, changes)
    (found,) = summary.duels
    assert (found.first, found.second) == ("X", "Y")
    assert (found.wins, found.ties, found.losses) == (6, 1, 1)
    assert found.rate.value == pytest.approx(6.5 / 8)
    assert (summary.votes, summary.revised, summary.withdrawn, summary.prompts, summary.labelers) == (8, 1, 3, 8, 1)
    assert summary.tie_share == pytest.approx(1 / 8)
    assert summary == summarize(rows, changes)


def test_nothing_measured_is_missing_not_zero() -> None:
    empty = summarize([])
    assert empty.duels == ()
    assert empty.strengths == ()
    assert (empty.first_side.value, empty.agreement.value, empty.tie_share) == (None, None, None)


def test_few_or_unanimous_votes_get_the_exact_binomial_interval() -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(10)
    ten = mean_estimate(np.ones(10), [ids], rng)
    assert ten.high == 1.0
    assert ten.low == pytest.approx(0.025 ** (1 / 10))  # Clopper and Pearson, all of n won: (alpha / 2) ** (1 / n)
    half = mean_estimate(np.array([1.0] * 5 + [0.0] * 5), [ids], rng)
    assert (half.low, half.high) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))
    unanimous = mean_estimate(np.ones(100), [np.zeros(100), np.arange(100)], rng)
    assert unanimous.low == pytest.approx(0.025 ** (1 / 100))


def test_the_bootstrap_agrees_with_the_textbook_when_votes_are_independent() -> None:
    values = np.array([1.0] * 300 + [0.0] * 100)
    found = mean_estimate(values, [np.arange(400)], np.random.default_rng(1))
    assert found.value == 0.75
    error = (0.75 * 0.25 / 400) ** 0.5
    assert found.low == pytest.approx(0.75 - 1.96 * error, abs=0.006)
    assert found.high == pytest.approx(0.75 + 1.96 * error, abs=0.006)


def test_votes_that_repeat_a_prompt_do_not_narrow_the_interval() -> None:
    values = np.array([1.0] * 30 + [0.0] * 10)
    once = mean_estimate(values, [np.arange(40)], np.random.default_rng(2))
    tenfold = mean_estimate(np.repeat(values, 10), [np.repeat(np.arange(40), 10)], np.random.default_rng(2))
    assert once.low is not None
    assert tenfold.low == pytest.approx(once.low, abs=1e-9)


def test_davidson_recovers_the_parameters_that_made_the_counts() -> None:
    true, log_nu, side = np.array([0.8, 0.1, -0.9]), -0.4, 0.3
    counts = np.zeros((3, 3, 3))
    for i in range(3):
        for j in range(3):
            if i != j:
                d = true[i] + side - true[j]
                weights = np.exp([-d / 2, log_nu, d / 2])
                counts[i, j] = 1e5 * weights / weights.sum()
    strength, found_nu, found_side = fit_davidson(counts)
    np.testing.assert_allclose(strength, true, atol=1e-3)
    assert found_nu == pytest.approx(log_nu, abs=1e-3)
    assert found_side == pytest.approx(side, abs=1e-3)


def test_two_checkpoints_without_ties_have_the_log_odds_of_their_votes() -> None:
    counts = np.zeros((2, 2, 3))
    counts[0, 1] = [100, 0, 300]
    counts[1, 0] = [300, 0, 100]  # the same odds from the other side: no advantage of a side
    strength, _, side = fit_davidson(counts, prior=1e-6)
    assert strength[0] - strength[1] == pytest.approx(np.log(3), abs=1e-3)
    assert side == pytest.approx(0, abs=1e-3)


def test_a_checkpoint_that_always_wins_has_a_finite_strength_and_an_interval() -> None:
    rows = [vote(i, 1, prompt=f"p{i}", labeler=f"l{i % 3}") for i in range(30)]
    found = strengths(votes_of(rows, across=True), np.random.default_rng(0))
    assert [s.checkpoint for s in found] == ["X", "Y"]
    best = found[0].log_odds
    assert best.value is not None
    assert 0 < best.value < 10
    assert best.low is not None
    assert best.high is not None
    assert best.low <= best.value <= best.high


def test_agreement_compares_people_on_the_same_responses_only() -> None:
    rows = [
        vote(1, 1, labeler="a", prompt="p"),
        vote(2, 1, labeler="b", prompt="p", shown=(1, 0)),
        vote(3, -1, labeler="c", prompt="p"),
        vote(4, 1, labeler="a", prompt="q"),
        vote(5, 0, labeler="b", prompt="q"),
        vote(6, 1, labeler="a", prompt="r"),
    ]
    found = agreement(rows, np.random.default_rng(0))
    assert found.n == 3  # a-b, a-c and b-c on p; the tie on q and the lone vote on r say nothing
    assert found.value == pytest.approx(1 / 3)
