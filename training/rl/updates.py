"""Gradients of one PPO update: the clipped losses of policy and value model over a minibatch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from training.models import forward
from training.rl import losses
from training.rl.episodes import Episodes, PolicyModels, own_passes, values_of


def ppo_gradients(
    models: PolicyModels,
    episodes: Episodes,
    advantages: Tensor,
    returns: Tensor,
    minibatch: Sequence[int],
    *,
    tokens_per_pass: int,
    temperature: float,
    clip: float,
    value_coefficient: float,
) -> dict[str, float]:
    """Add the gradients of the clipped policy and value losses, means over all tokens of the minibatch.

    Args:
        advantages, returns: (B, T), as the episodes' tensors.
        minibatch: rows of the episodes.

    Returns:
        Of several processes each one's part of these figures (`ranks.totals`), which are sums but for the ratio's: both
        losses, the share of clipped ratios, the largest |ratio - 1|, and the KL per token from before the
        update (k3).
    """
    tokens = float(episodes.mask[list(minibatch)].sum())
    sums = {"policy_loss": 0.0, "value_loss": 0.0, "clipped": 0.0, "ratio_error": 0.0, "approximate_kl": 0.0}
    for rows, weight in own_passes(episodes.prompts, episodes.responses, minibatch, tokens_per_pass):
        prompts, responses = [episodes.prompts[i] for i in rows], [episodes.responses[i] for i in rows]
        length = max(len(response) for response in responses)
        mask, old = weight * episodes.mask[rows, :length], episodes.old_logprobs[rows, :length]
        logprobs = forward.response_logprobs(models.policy, prompts, responses, temperature)
        weights = None if episodes.importance is None else episodes.importance[rows, :length]
        policy = losses.policy_loss(logprobs, old, advantages[rows, :length], mask, clip, weights)
        (policy.total / tokens).backward()  # before the values' pass: what it keeps is freed
        values = values_of(models, prompts, responses)
        value = losses.value_loss(values, episodes.old_values[rows, :length], returns[rows, :length], mask, clip)
        (value_coefficient * value / tokens).backward()
        sums["policy_loss"] += policy.total.item() / tokens
        sums["value_loss"] += value.item() / tokens
        sums["clipped"] += policy.clipped.item() / tokens
        sums["ratio_error"] = max(sums["ratio_error"], float((policy.ratio - 1).abs().max()))
        sums["approximate_kl"] += float((losses.kl_estimators(old, logprobs.detach()).k3 * mask).sum()) / tokens
    return sums
