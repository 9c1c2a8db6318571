"""Truncated importance weights: by hand, in the loss, and absent where the trainer samples."""

from __future__ import annotations

import math

import pytest
import torch

from tests.training.conftest import Toy
from training.models import loading
from training.models.memory import Budget
from training.rl import losses
from training.rl.episodes import PolicyModels, Reward, evaluate
from training.rl.rollouts import Sampling, generate
from training.rl.scalars import scalars_of
from training.rl.updates import ppo_gradients

pytestmark = pytest.mark.unit


def test_weights_are_ratios_up_to_their_cap() -> None:
    trainer = torch.tensor([[-1.0, -1.0, -1.0, -5.0]])
    engine = torch.tensor([[-1.0, -1.0 - math.log(1.5), -1.0 - math.log(8.0), 0.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    weights = losses.importance_weights(trainer.requires_grad_(), engine, mask)
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.5, 2.0, 1.0]]), atol=1e-6, rtol=0)
    assert not weights.requires_grad
    below = losses.importance_weights(torch.tensor([[-3.0]]), torch.tensor([[-1.0]]), torch.ones(1, 1))
    torch.testing.assert_close(below, torch.tensor([[math.exp(-2)]]))


def test_each_tokens_loss_and_gradient_have_their_weight() -> None:
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    old, advantages, mask = torch.tensor([[-1.0, -2.0]]), torch.tensor([[1.0, -3.0]]), torch.ones(1, 2)
    loss = losses.policy_loss(logprobs, old, advantages, mask, importance=torch.tensor([[2.0, 0.5]]))
    # At ratio 1 a token's loss is -A, and its gradient with respect to its log-probability too.
    assert loss.total.item() == pytest.approx(-1.0 * 2.0 + 3.0 * 0.5)
    loss.total.backward()
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, torch.tensor([[-2.0, 1.5]]))
    assert torch.equal(loss.ratio, torch.ones(1, 2))  # the weight is not part of the ratio that is clipped


@pytest.fixture
def models(toy_chain: Toy) -> PolicyModels:
    policy, reference = (loading.load(toy_chain.policy.id, toy_chain.home).model for _ in range(2))
    reward, value = (loading.load(toy_chain.reward.id, toy_chain.home, "reward").model for _ in range(2))
    scorer = Reward("scorer", reward, 1.0, 0.0, lambda prompt, response: [*prompt, *response])
    return PolicyModels(policy, reference, value, (scorer,), 0.0)


def test_samples_of_an_engine_are_weighted_and_the_trainers_own_are_not(models: PolicyModels) -> None:
    """An engine whose log-probabilities are lower by log 1.25 gives the trainer's gradient, 1.25 times as large."""
    prompts = [[0, 3, 264, 265, 4], [0, 3, 4]]
    own = generate(models.policy, prompts, 1, Sampling(1.0, 6, (0,), seed=1))
    shifted = [[value - math.log(1.25) for value in row] for row in own.logprobs]
    engines = own._replace(logprobs=shifted, by_engine=True)
    rows = range(2)
    gradients, found = [], []
    for rollouts in (own, engines):
        episodes = evaluate(models, prompts, rollouts, [rows], 1.0, Budget(1000))
        models.policy.zero_grad()
        ppo_gradients(
            models, episodes, episodes.mask, episodes.old_values, list(rows),
            tokens_per_pass=1000, temperature=1.0, clip=0.2, value_coefficient=0.1,
        )  # fmt: skip
        gradients.append(torch.cat([p.grad.flatten().clone() for p in models.policy.parameters()]))
        found.append(scalars_of(episodes, losses.kl_estimators(episodes.old_logprobs, episodes.reference_logprobs)))
    torch.testing.assert_close(gradients[1], 1.25 * gradients[0], rtol=1e-4, atol=1e-7)
    assert "importance_weight" not in found[0]
    assert found[0]["sampler_gap"] < 1e-5
    assert found[1]["importance_weight"] == pytest.approx(1.25, rel=1e-4)
    assert found[1]["importance_capped"] == 0.0
    assert found[1]["sampler_gap"] == pytest.approx(math.log(1.25), rel=1e-3)
