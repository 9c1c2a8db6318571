"""PPO's episodes: responses with their scores, log-probabilities and values, as they were before the update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.models import forward, memory
from training.rl import batches, losses
from training.rl.rollouts import Rollouts
from training.runtime import ranks, runs


class Reward(NamedTuple):
    """A reward model: weight (score - offset) is its part of an episode's reward.

    Attributes:
        name: in the log.
        extend: the row that it reads for a prompt and a response (`Renderer.extend`); None for a response that it
            cannot read.
    """

    name: str
    model: Any
    weight: float
    offset: float
    extend: Callable[[list[int], list[int]], list[int] | None]

    def raw_scores(self, prompts: list[list[int]], responses: list[list[int]]) -> Tensor:
        """What the model gives these responses, offset not subtracted, -inf where it cannot read one: (rows, 1)."""
        rows = list(map(self.extend, prompts, responses))
        unreadable = torch.tensor([row is None for row in rows])
        # A token stands in for an unreadable row, so that all processes make the same passes.
        scores = forward.scores_of(self.model, [row or [0] for row in rows])
        return scores.masked_fill(unreadable.to(scores.device), -torch.inf)[:, None]


class PolicyModels(NamedTuple):
    """The models of PPO.

    Attributes:
        rewards: one, or several whose parts are added up.
        offset: subtracted from values, which start as raw scores of the first reward model.
    """

    policy: Any
    reference: Any
    value: Any
    rewards: tuple[Reward, ...]
    offset: float


class Episodes(NamedTuple):
    """B episodes; tensors are (B, T) with T the tokens of the longest response, 0 at padding, unless said.

    Attributes:
        scores: (B,), the rewards' weighted sum, those of unfinished responses replaced by a penalty.
        parts: (B,) by the name of each reward model, its offset subtracted; without weight and penalty, -inf for a
            response that it cannot read.
        finished: (B,) bool: it ends with a stop token, and every reward model can read it.
        sampler_gap: mean |log-probability here - log-probability when it was sampled|.
        importance: `losses.importance_weights` of responses that an engine sampled; None of the trainer's own.
    """

    prompts: list[list[int]]
    responses: list[list[int]]
    scores: Tensor
    finished: Tensor
    mask: Tensor
    old_logprobs: Tensor
    reference_logprobs: Tensor
    old_values: Tensor
    sampler_gap: float
    parts: Mapping[str, Tensor]
    importance: Tensor | None = None


def evaluate(
    models: PolicyModels,
    prompts: list[list[int]],
    rollouts: Rollouts,
    minibatches: Sequence[Sequence[int]],
    temperature: float,
    budget: memory.Budget,
) -> Episodes:
    """Score the responses, and compute what PPO needs from before the update.

    Of several processes each takes its share of every minibatch, and all get all episodes: what is computed from them
    (penalties, whitened advantages, the KL that beta adapts to) is that of the whole batch in each.

    Args:
        minibatches: rows of the update's first minibatches. They go forward in the same passes as there, so that the
            same kernels see the same rows before and after, and the first ratio is 1 whatever the precision.
    """
    responses = rollouts.ids
    mask = forward.response_mask(responses)
    columns = budget.run([], partial(_own_columns, models, prompts, responses, minibatches, temperature))
    ranks.add_up([columns])
    old, reference, values, *raw = columns
    parts = {reward.name: one[:, 0] - reward.offset for reward, one in zip(models.rewards, raw, strict=True)}
    weighted = [reward.weight * parts[reward.name] for reward in models.rewards]
    scores = torch.stack(weighted).sum(0)
    finished = torch.tensor(rollouts.finished, device=mask.device) & ~scores.isneginf()
    sampled = forward.pad_right(rollouts.logprobs, 0.0, torch.float32)
    return Episodes(
        prompts=prompts,
        responses=responses,
        scores=losses.penalise_unfinished(scores, finished),
        finished=finished,
        mask=mask,
        old_logprobs=old,
        reference_logprobs=reference,
        old_values=values,
        sampler_gap=float(losses.masked_mean((old - sampled).abs(), mask)),
        parts=parts,
        importance=losses.importance_weights(old, sampled, mask) if rollouts.by_engine else None,
    )


def _own_columns(
    models: PolicyModels,
    prompts: list[list[int]],
    responses: list[list[int]],
    minibatches: Sequence[Sequence[int]],
    temperature: float,
    tokens_per_pass: int,
) -> Tensor:
    """Log-probabilities of policy and reference, values, and raw scores of each reward model (in the first column):
    (3 + rewards, B, T). Of several processes each one's share of the rows, the others' 0."""
    mask = forward.response_mask(responses)
    parts = [part for rows in minibatches for part in own_passes(prompts, responses, rows, tokens_per_pass)]

    def over_parts(function: Callable[[list[list[int]], list[list[int]]], Tensor]) -> Tensor:
        """(B, T) from the results of `function` for the rows of each part."""
        whole = torch.zeros_like(mask)
        with torch.no_grad():
            for rows, weight in parts:
                result = function([prompts[i] for i in rows], [responses[i] for i in rows])
                if weight:
                    whole[list(rows), : result.shape[1]] = result.float()
        return whole

    old = over_parts(lambda p, r: forward.response_logprobs(models.policy, p, r, temperature))
    reference = over_parts(lambda p, r: forward.response_logprobs(models.reference, p, r, temperature))
    values = over_parts(lambda p, r: values_of(models, p, r))
    raw = [over_parts(reward.raw_scores) for reward in models.rewards]
    return torch.stack([old, reference, values, *raw])


def values_of(models: PolicyModels, prompts: Sequence[list[int]], responses: Sequence[list[int]]) -> Tensor:
    """Values in units of the reward, (rows, longest response), 0 at padding."""
    raw = forward.response_values(models.value, prompts, responses)
    return (raw - models.offset) * forward.response_mask(responses)


def shuffle_into_minibatches(rows: int, size: int, *names: int | str) -> list[list[int]]:
    """Numbers of the rows in random minibatches of `size`."""
    order = list(range(rows))
    runs.rng_for("minibatches", *names).shuffle(order)
    return batches.chunks(order, size)


def own_passes(
    prompts: Sequence[list[int]], responses: Sequence[list[int]], rows: Sequence[int], tokens_per_pass: int
) -> list[batches.Pass[int]]:
    """These rows, of several processes each one's share, as micro-batches of like length."""
    return batches.own_passes(rows, [len(prompts[i]) + len(responses[i]) for i in rows], tokens_per_pass)
