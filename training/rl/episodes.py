"""PPO's episodes: responses with their scores, log-probabilities and values, as they were before the update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.models import forward
from training.rl import batches, losses
from training.rl.rollouts import Rollouts
from training.runtime import runs


class PolicyModels(NamedTuple):
    """The four models of PPO, and what turns the reward model's output into rewards.

    Attributes:
        offset: subtracted from raw scores, and from values, which start as raw scores.
        extend: the row that the reward model reads for a prompt and a response (`Renderer.extend`).
    """

    policy: Any
    reference: Any
    reward: Any
    value: Any
    offset: float
    extend: Callable[[list[int], list[int]], list[int]]


class Episodes(NamedTuple):
    """B episodes; tensors are (B, T) with T the tokens of the longest response, 0 at padding, unless said.

    Attributes:
        scores: (B,), offset subtracted, those of unfinished responses replaced by a penalty.
        finished: (B,) bool.
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
    importance: Tensor | None = None


def evaluate(
    models: PolicyModels,
    prompts: list[list[int]],
    rollouts: Rollouts,
    minibatches: Sequence[Sequence[int]],
    temperature: float,
    tokens_per_pass: int,
) -> Episodes:
    """Score the responses, and compute what PPO needs from before the update.

    Args:
        minibatches: rows of the update's first minibatches. They go forward in the same passes as there, so that the
            same kernels see the same rows before and after, and the first ratio is 1 whatever the precision.
    """
    responses = rollouts.ids
    mask = forward.response_mask(responses)
    parts = [part for rows in minibatches for part in passes(prompts, responses, rows, tokens_per_pass)]

    def over_parts(function: Callable[[list[list[int]], list[list[int]]], Tensor]) -> Tensor:
        """(B, T) from the results of `function` for the rows of each part."""
        whole = torch.zeros_like(mask)
        with torch.no_grad():
            for rows in parts:
                result = function([prompts[i] for i in rows], [responses[i] for i in rows])
                whole[list(rows), : result.shape[1]] = result.float()
        return whole

    old = over_parts(lambda p, r: forward.response_logprobs(models.policy, p, r, temperature))
    reference = over_parts(lambda p, r: forward.response_logprobs(models.reference, p, r, temperature))
    values = over_parts(lambda p, r: values_of(models, p, r))
    raw = over_parts(lambda p, r: forward.scores_of(models.reward, list(map(models.extend, p, r)))[:, None])[:, 0]
    finished = torch.tensor(rollouts.finished, device=mask.device)
    sampled = forward.pad_right(rollouts.logprobs, 0.0, torch.float32)
    return Episodes(
        prompts=prompts,
        responses=responses,
        scores=losses.penalise_unfinished(raw - models.offset, finished),
        finished=finished,
        mask=mask,
        old_logprobs=old,
        reference_logprobs=reference,
        old_values=values,
        sampler_gap=float(losses.masked_mean((old - sampled).abs(), mask)),
        importance=losses.importance_weights(old, sampled, mask) if rollouts.by_engine else None,
    )


def values_of(models: PolicyModels, prompts: Sequence[list[int]], responses: Sequence[list[int]]) -> Tensor:
    """Values in units of the reward, (rows, longest response), 0 at padding."""
    raw = forward.response_values(models.value, prompts, responses)
    return (raw - models.offset) * forward.response_mask(responses)


def shuffle_into_minibatches(rows: int, size: int, *names: int | str) -> list[list[int]]:
    """Numbers of the rows in random minibatches of `size`."""
    order = list(range(rows))
    runs.rng_for("minibatches", *names).shuffle(order)
    return batches.chunks(order, size)


def passes(
    prompts: Sequence[list[int]], responses: Sequence[list[int]], rows: Sequence[int], tokens_per_pass: int
) -> list[list[int]]:
    """These rows as micro-batches of like length."""
    return batches.passes(rows, [len(prompts[i]) + len(responses[i]) for i in rows], tokens_per_pass)
