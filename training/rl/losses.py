"""The mathematics of the reward model and of PPO, as pure functions of tensors.

Shapes: B responses, T positions of the longest response (or K responses of one prompt). `mask` is 1 at response
tokens, 0 at the padding to their right. Log-probabilities are natural logs.
Sources: Ouyang et al. 2022 (InstructGPT, arXiv 2203.02155); Schulman et al. 2017 (PPO, 1707.06347); Schulman et al.
2015 (GAE, 1506.02438); Ziegler et al. 2019 (1909.08593) and its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IMPORTANCE_CAP = 2.0  # ours
Pair = tuple[int, int, int]  # (i, j, outcome): 1 when i is better, -1 when j is better, 0 for a tie


class KL(NamedTuple):
    """Three estimators of KL(policy || reference) from samples of the policy, each (B, T) in nats."""

    k1: Tensor
    k2: Tensor
    k3: Tensor


class PolicyLoss(NamedTuple):
    """Loss summed over the tokens (divide by the batch's token count), with figures for the log."""

    total: Tensor  # scalar
    clipped: Tensor  # number of tokens whose ratio lies outside the clip range
    ratio: Tensor  # (B, T)


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each id under softmax(logits / temperature).

    Args:
        logits: (..., vocabulary), of any floating type; the result is computed in float32.
        ids: (...).
    """
    logits = logits.float() / temperature if temperature != 1.0 else logits.float()
    return -F.cross_entropy(logits.flatten(0, -2), ids.flatten(), reduction="none").view(ids.shape)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions where mask is 1."""
    return (values * mask).sum() / mask.sum()


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over the tokens of the whole batch; 0 at padding. Shape (B, T)."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def pairwise_loss(scores: Tensor, pairs: Sequence[Pair]) -> Tensor | None:
    """Mean of -log sigmoid(winner - loser) over the decided pairs of one prompt (Ouyang et al. 2022, equation 1).

    Args:
        scores: (K,), each response's score from its single forward pass.
        pairs: all C(K, 2) pairs of the ranking; ties are left out, as in the paper.

    Returns:
        A scalar; None when every pair is a tie.
    """
    decided = [(i, j) if outcome > 0 else (j, i) for i, j, outcome in pairs if outcome != 0]
    if not decided:
        return None
    better, worse = torch.tensor(decided, device=scores.device).T
    return -F.logsigmoid(scores[better] - scores[worse]).mean()


def ranking_loss(scores: Tensor, groups: Sequence[tuple[Sequence[int], Sequence[Pair]]]) -> Tensor:
    """Reward model loss of a batch: mean over each prompt's pairs, then over prompts (Ouyang et al. 2022, 3.5).

    A mean over all pairs at once would give a prompt with K = 9 six times the weight of one with K = 4.

    Args:
        scores: (sum of K,), the scores of every response of the batch.
        groups: for each prompt the indices of its responses in `scores`, and its pairs.
    """
    losses = [pairwise_loss(scores[list(rows)], pairs) for rows, pairs in groups]
    return torch.stack([loss for loss in losses if loss is not None]).mean()


def kl_estimators(logprobs: Tensor, reference: Tensor) -> KL:
    """Per-token estimators with d = log pi - log pi_ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. Shape (B, T)."""
    d = logprobs - reference
    return KL(d, d**2 / 2, torch.expm1(-d) + d)


def penalise_unfinished(scores: Tensor, finished: Tensor) -> Tensor:
    """Replace the score of every unfinished response by the lower of -1 and (lowest finished score - 1). Shape (B,).

    The code of Ziegler et al. 2019 uses a fixed -1, which turns into a reward where finished responses score lower.
    The InstructGPT paper names no such penalty.

    Args:
        scores: (B,), offset already subtracted.
        finished: (B,) bool, the response ends with a stop token.
    """
    lowest = scores[finished].min() if finished.any() else scores.new_tensor(0.0)
    return torch.where(finished, scores, torch.minimum(lowest - 1.0, lowest.new_tensor(-1.0)))


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """r_t = -beta KL_t at every response token, plus the score at the last one (Ouyang et al. 2022, 3.5).

    Args:
        scores: (B,).
        kl: (B, T), the paper's estimator is k1.
        coefficient: beta.

    Returns:
        (B, T).
    """
    rewards = -coefficient * kl * mask
    last = mask.sum(1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2015, 1506.02438), value 0 past the end.

    `lam` 0.95 is the default of Ziegler et al.'s code: the InstructGPT paper gives none. Discount 1 is the paper's.

    Returns:
        advantages (not whitened) and returns = advantages + values, both (B, T), 0 at padding.
    """
    values = values * mask
    advantages = torch.zeros_like(rewards)
    next_advantage = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + discount * next_value - values[:, t]
        next_advantage = (delta + discount * lam * next_advantage) * mask[:, t]
        advantages[:, t] = next_advantage
        next_value = values[:, t]
    return advantages, (advantages + values) * mask


def importance_weights(logprobs: Tensor, sampled: Tensor, mask: Tensor, cap: float = IMPORTANCE_CAP) -> Tensor:
    """min(pi / mu, cap) for each token of samples from mu that a policy pi learns from, (B, T); 1 at padding.

    An engine's distribution mu differs a little from the trainer's pi before the update, by its kernels and its
    rounding. The weights correct what is learned for it; the cap bounds their variance at the price of a small bias
    (truncated importance sampling, Ionides 2008).

    Args:
        logprobs: of the trainer, before the update.
        sampled: of the engine, for the same tokens at the same temperature.
    """
    return torch.exp((logprobs - sampled) * mask).clamp(max=cap).detach()


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip: float = 0.2,
    importance: Tensor | None = None,
) -> PolicyLoss:
    """Sum over tokens of max(-A rho, -A clip(rho, 1 - clip, 1 + clip)) with rho = pi / pi_old (1707.06347, equation 7).

    All tensors are (B, T). `clip` 0.2 is the InstructGPT paper's (appendix C.4). Where an engine sampled, each token's
    loss is multiplied by its `importance_weights`.
    """
    ratio = torch.exp((logprobs - old_logprobs) * mask)
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))
    if importance is not None:
        losses = losses * importance
    outside = ((ratio - 1).abs() > clip).float()
    return PolicyLoss((losses * mask).sum(), (outside * mask).sum().detach(), ratio.detach())


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """Sum over tokens of 0.5 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2). All tensors are (B, T)."""
    clipped = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
    return 0.5 * (torch.maximum((values - returns) ** 2, (clipped - returns) ** 2) * mask).sum()


def adapt_kl_coefficient(coefficient: float, kl: float, target: float, episodes: int, horizon: int) -> float:
    """beta <- beta (1 + clip(KL / target - 1, +-0.2) episodes / horizon), as in Ziegler et al. 2019 (1909.08593).

    Args:
        kl: summed over each response's tokens, mean over the batch, in nats.
        target: the KL to hold.
        episodes: responses in the batch.
        horizon: number of episodes in which the largest error, 20 %, changes beta by about 20 %.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * episodes / horizon)
