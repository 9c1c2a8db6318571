"""The losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from training.rl import losses

pytestmark = pytest.mark.unit


def test_pairwise_loss_of_a_ranking_of_three() -> None:
    # Ranks 1, 2, 3 with scores 2, 1, -1: margins 1, 3, 2.
    pairs = [(0, 1, 1), (0, 2, 1), (1, 2, 1)]
    expected = sum(math.log1p(math.exp(-margin)) for margin in (1, 3, 2)) / 3
    assert losses.pairwise_loss(tensor([2.0, 1.0, -1.0]), pairs).item() == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(0.162926, abs=1e-6)


def test_outcome_minus_one_means_that_the_second_is_better() -> None:
    scores = tensor([0.0, 1.0])
    assert losses.pairwise_loss(scores, [(0, 1, -1)]).item() == pytest.approx(math.log1p(math.exp(-1)), abs=1e-6)
    assert losses.pairwise_loss(scores, [(0, 1, 1)]).item() == pytest.approx(math.log1p(math.exp(1)), abs=1e-6)


def test_ties_are_dropped_and_a_ranking_of_ties_has_no_loss() -> None:
    scores = tensor([0.0, 1.0, 5.0])
    with_tie = losses.pairwise_loss(scores, [(0, 1, -1), (0, 2, 0), (1, 2, 0)])
    assert with_tie.item() == pytest.approx(math.log1p(math.exp(-1)), abs=1e-6)
    assert losses.pairwise_loss(scores, [(0, 1, 0), (0, 2, 0), (1, 2, 0)]) is None


def test_every_prompt_weighs_the_same_whatever_its_k() -> None:
    # One prompt of K = 2 with margin 1, one of K = 3 with all scores equal (loss log 2 a pair).
    scores = tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    groups = [([0, 1], [(0, 1, 1)]), ([2, 3, 4], [(0, 1, 1), (0, 2, 1), (1, 2, 1)])]
    expected = (math.log1p(math.exp(-1)) + math.log(2)) / 2
    assert losses.ranking_loss(scores, groups).item() == pytest.approx(expected, abs=1e-6)


def test_advantages_by_hand() -> None:
    # lambda 0.5, discount 1. delta_1 = 2 - 0.5 = 1.5; delta_0 = 1 + 0.5 - 1 = 0.5; A_0 = 0.5 + 0.5 * 1.5 = 1.25.
    rewards, values = tensor([[1.0, 2.0, 9.0]]), tensor([[1.0, 0.5, 7.0]])
    advantages, returns = losses.advantages_and_returns(rewards, values, tensor([[1.0, 1.0, 0.0]]), lam=0.5)
    torch.testing.assert_close(advantages, tensor([[1.25, 1.5, 0.0]]))
    torch.testing.assert_close(returns, tensor([[2.25, 2.0, 0.0]]))


def test_discount_reaches_the_value_and_the_trace() -> None:
    # discount 0.5, lambda 0.5: delta_1 = 2 - 1 = 1; delta_0 = 0 + 0.5 * 1 - 0 = 0.5; A_0 = 0.5 + 0.25 * 1 = 0.75.
    rewards, values = tensor([[0.0, 2.0]]), tensor([[0.0, 1.0]])
    advantages, _ = losses.advantages_and_returns(rewards, values, torch.ones(1, 2), discount=0.5, lam=0.5)
    torch.testing.assert_close(advantages, tensor([[0.75, 1.0]]))


def test_score_lands_on_the_last_real_token() -> None:
    mask = tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    kl = tensor([[0.1, 0.2, 9.0], [0.3, 9.0, 9.0]])
    rewards = losses.token_rewards(tensor([5.0, -1.0]), kl, mask, 0.5)
    torch.testing.assert_close(rewards, tensor([[-0.05, 4.9, 0.0], [-1.15, 0.0, 0.0]]))


@pytest.mark.parametrize(
    "advantage, ratio, expected",
    [(2.0, 1.5, -2.4), (2.0, 0.5, -1.0), (-2.0, 1.5, 3.0), (-2.0, 0.5, 1.6), (2.0, 1.1, -2.2)],
)
def test_policy_loss_clips_only_what_would_gain(advantage: float, ratio: float, expected: float) -> None:
    new, old, mask = tensor([[math.log(ratio) - 1, 0.0]]), tensor([[-1.0, -3.0]]), tensor([[1.0, 0.0]])
    loss = losses.policy_loss(new, old, tensor([[advantage, 50.0]]), mask)
    assert loss.total.item() == pytest.approx(expected, abs=1e-5)
    assert loss.clipped.item() == float(abs(ratio - 1) > 0.2)


def test_policy_gradient_raises_what_was_good() -> None:
    """A sign error anywhere between advantage and loss would fail here."""
    logprobs = torch.full((1, 2), -1.0, requires_grad=True)
    losses.policy_loss(logprobs, logprobs.detach(), tensor([[1.0, -3.0]]), torch.ones(1, 2)).total.backward()
    torch.testing.assert_close(logprobs.grad, tensor([[-1.0, 3.0]]))  # at ratio 1 the gradient is -A


@pytest.mark.parametrize(
    "value, old, target, expected",
    # Inside the range: plain. Outside: the greater of both errors, so leaving the range never pays.
    [(1.1, 1.0, 2.0, 0.405), (1.5, 1.0, 2.0, 0.32), (0.5, 1.0, 2.0, 1.125), (3.0, 1.0, 2.0, 0.5)],
)
def test_value_loss_by_hand(value: float, old: float, target: float, expected: float) -> None:
    loss = losses.value_loss(tensor([[value]]), tensor([[old]]), tensor([[target]]), torch.ones(1, 1))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_padding_counts_for_nothing_in_either_loss() -> None:
    mask = tensor([[1.0, 1.0, 0.0]])
    values, old, returns = tensor([[0.5, 1.0, 9.0]]), tensor([[0.4, 1.0, 2.0]]), tensor([[1.0, 0.0, -5.0]])
    short = losses.value_loss(values[:, :2], old[:, :2], returns[:, :2], mask[:, :2])
    assert losses.value_loss(values, old, returns, mask) == short
    logprobs, before, advantages = (
        tensor([[-1.0, -2.0, -9.0]]),
        tensor([[-1.1, -2.0, -1.0]]),
        tensor([[1.0, -1.0, 7.0]]),
    )
    policy = losses.policy_loss(logprobs, before, advantages, mask)
    shorter = losses.policy_loss(logprobs[:, :2], before[:, :2], advantages[:, :2], mask[:, :2])
    assert (policy.total, policy.clipped) == (shorter.total, shorter.clipped)


def test_unfinished_responses_never_outrank_finished_ones() -> None:
    finished = tensor([True, True, False])
    low = losses.penalise_unfinished(tensor([-3.0, 2.0, 9.0]), finished)
    torch.testing.assert_close(low, tensor([-3.0, 2.0, -4.0]))
    high = losses.penalise_unfinished(tensor([3.0, 2.0, 9.0]), finished)
    torch.testing.assert_close(high, tensor([3.0, 2.0, -1.0]))
    none = losses.penalise_unfinished(tensor([9.0]), tensor([False]))
    torch.testing.assert_close(none, tensor([-1.0]))


def test_kl_estimators_by_hand_and_in_expectation() -> None:
    k1, k2, k3 = losses.kl_estimators(tensor([math.log(0.5)]), tensor([math.log(0.25)]))
    assert k1.item() == pytest.approx(math.log(2), abs=1e-6)
    assert k2.item() == pytest.approx(math.log(2) ** 2 / 2, abs=1e-6)
    assert k3.item() == pytest.approx(0.5 - 1 + math.log(2), abs=1e-6)
    policy, reference = tensor([0.7, 0.2, 0.1]), tensor([0.5, 0.25, 0.25])
    exact = (policy * (policy / reference).log()).sum()
    estimates = losses.kl_estimators(policy.log(), reference.log())
    torch.testing.assert_close((policy * estimates.k1).sum(), exact)
    torch.testing.assert_close((policy * estimates.k3).sum(), exact)


def test_whitening_leaves_padding_out_of_the_statistics() -> None:
    values, mask = tensor([[1.0, 3.0, 100.0]]), tensor([[1.0, 1.0, 0.0]])
    torch.testing.assert_close(losses.whiten(values, mask), tensor([[-1.0, 1.0, 0.0]]))


def test_temperature_divides_the_logits() -> None:
    logits = tensor([[0.0, 2.0]])
    expected = -math.log(1 + math.exp(-1.0))
    assert losses.token_logprobs(logits, tensor([1]), temperature=2.0).item() == pytest.approx(expected, abs=1e-6)


def test_kl_coefficient_adapts_within_a_fifth() -> None:
    assert losses.adapt_kl_coefficient(0.1, kl=60, target=6, episodes=100, horizon=1000) == pytest.approx(0.102)
    assert losses.adapt_kl_coefficient(0.1, kl=5.4, target=6, episodes=100, horizon=1000) == pytest.approx(0.099)
