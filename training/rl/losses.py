"""The mathematics of the reward model and of PPO, as pure functions of tensors.

Shapes: B responses, T positions of the longest response (or K responses of one prompt). `mask` is 1 at real
response tokens, 0 at padding to their right. Log-probabilities are natural logs.
Sources: Ouyang et al. 2022 (arXiv 2203.02155); Schulman et al. 2017 (1707.06347); Ziegler et al. 2019 (1909.08593).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int, int]  # (i, j, outcome): 1 when i is better, -1 when j is better, 0 for a tie


class KL(NamedTuple):
    """Three estimators of KL(policy || reference) from samples of the policy, each (B, T) in nats."""

    k1: Tensor
    k2: Tensor
    k3: Tensor


class PolicyLoss(NamedTuple):
    """Sum over the tokens (divide by the batch's token count), and what to log of it."""

    total: Tensor
    clipped: Tensor  # number of tokens whose ratio lay outside the clip range
    ratio: Tensor  # (B, T)


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each id under softmax(logits / temperature).

    Args:
        logits: (..., vocabulary); computed in float32 whatever its type.
        ids: (...).
    """
    logits = logits.float() / temperature if temperature != 1.0 else logits.float()
    return -F.cross_entropy(logits.flatten(0, -2), ids.flatten(), reduction="none").view(ids.shape)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions where mask is 1."""
    return (values * mask).sum() / mask.sum()


def whiten(values: Tensor, mask: Tensor, keep_mean: bool = False) -> Tensor:
    """Scale to variance 1, and to mean 0 unless `keep_mean`, by the masked mean and variance of the whole batch."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened + mean if keep_mean else whitened) * mask


def pairwise_loss(scores: Tensor, pairs: Sequence[Pair]) -> Tensor | None:
    """Mean of -log sigmoid(winner - loser) over the decided pairs of one prompt; None when every pair is a tie.

    Args:
        scores: (K,), one forward a response.
        pairs: all C(K, 2) pairs of the ranking; ties are left out, as in the paper.
    """
    decided = [(i, j) if outcome > 0 else (j, i) for i, j, outcome in pairs if outcome != 0]
    if not decided:
        return None
    better, worse = torch.tensor(decided, device=scores.device).T
    return -F.logsigmoid(scores[better] - scores[worse]).mean()


def ranking_loss(scores: Tensor, groups: Sequence[tuple[Sequence[int], Sequence[Pair]]]) -> Tensor:
    """Reward model loss of a batch: mean over each prompt's pairs, then over prompts.

    A mean over all pairs at once would give a prompt of K = 9 six times the weight of one of K = 4.

    Args:
        scores: (sum of K,), the scores of every response of the batch.
        groups: for each prompt the rows of `scores` that are its responses, and its pairs.
    """
    losses = [pairwise_loss(scores[list(rows)], pairs) for rows, pairs in groups]
    return torch.stack([loss for loss in losses if loss is not None]).mean()


def kl_estimators(logprobs: Tensor, reference: Tensor) -> KL:
    """Per-token estimators with d = log pi - log pi_ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d."""
    d = logprobs - reference
    return KL(d, d**2 / 2, torch.expm1(-d) + d)


def penalise_unfinished(scores: Tensor, finished: Tensor) -> Tensor:
    """Replace the score of every response without an end by the lower of -1 and (lowest finished score - 1).

    -1 alone would be a reward where finished responses score below it.

    Args:
        scores: (B,), offset already subtracted.
        finished: (B,) bool, the response ends with a stop token.
    """
    lowest = scores[finished].min() if finished.any() else scores.new_tensor(0.0)
    return torch.where(finished, scores, torch.minimum(lowest - 1.0, lowest.new_tensor(-1.0)))


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """r_t = -beta k1_t at every response token, plus the score at the last one. Shape (B, T)."""
    rewards = -coefficient * kl * mask
    last = mask.sum(1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2015, 1506.02438), value 0 past the end.

    Returns:
        advantages (not whitened) and returns = advantages + values, both (B, T), 0 at padding.
    """
    values = values * mask
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + discount * following - values[:, t]
        running = (delta + discount * lam * running) * mask[:, t]
        advantages[:, t] = running
        following = values[:, t]
    return advantages, (advantages + values) * mask


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: float = 0.2
) -> PolicyLoss:
    """Sum over tokens of max(-A rho, -A clip(rho, 1 - clip, 1 + clip)) with rho = pi / pi_old."""
    ratio = torch.exp((logprobs - old_logprobs) * mask)
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))
    outside = ((ratio - 1).abs() > clip).float()
    return PolicyLoss((losses * mask).sum(), (outside * mask).sum().detach(), ratio.detach())


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """Sum over tokens of 0.5 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2)."""
    near = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
    return 0.5 * (torch.maximum((values - returns) ** 2, (near - returns) ** 2) * mask).sum()


def adapt_kl_coefficient(coefficient: float, kl: float, target: float, episodes: int, horizon: int) -> float:
    """beta <- beta (1 + clip(KL / target - 1, +-0.2) episodes / horizon); KL is a response's sum (1909.08593)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * episodes / horizon)
