"""Sampling responses from a policy: `generate(model, prompt_ids, n, sampling) -> ids, logprobs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from training.artifacts.errors import UserError
from training.models import forward, hardware, sharding
from training.runtime import ranks, runs

ROWS = 128  # responses at once, at most: prompts are padded to the longest of them, and 256 take a third more time


@dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest token.
        max_tokens: a response is cut off after this many tokens.
        stop_ids: tokens that end a response; the one that ended it is part of it.
        seed: the same seed, prompts and model give the same responses, however many are sampled at once.
        tokens: of prompts and responses, padding included, that are sampled at once; one prompt's n responses at least.
    """

    temperature: float
    max_tokens: int
    stop_ids: tuple[int, ...]
    seed: int
    tokens: int | None = None


class Rollouts(NamedTuple):
    """n responses to each prompt; those of prompt p are p * n to p * n + n - 1.

    Attributes:
        ids: token ids of each response, its stop token included.
        logprobs: of each token under the distribution that it was sampled from (temperature included).
        finished: whether the response ends with a stop token.
        by_engine: whether an engine sampled them, whose log-probabilities differ a little from the trainer's.
    """

    ids: list[list[int]]
    logprobs: list[list[float]]
    finished: list[bool]
    by_engine: bool = False


def generate(
    model: Any, prompt_ids: Sequence[Sequence[int]], n: int, sampling: Sampling, numbers: Sequence[int] | None = None
) -> Rollouts:
    """Sample n responses to each prompt with transformers' forward pass and its key-value cache.

    A prompt goes through the model once, whatever n. No top-p and no top-k: the log-probabilities are those of
    the policy at this temperature.

    Args:
        numbers: of the prompts that are answered, all where it is left out; the responses to others stay empty
            (`join`).

    Raises:
        UserError: the model has more than a key-value cache (`forward.is_stateful`): padded prompts would change its
            answers.
    """
    if forward.is_stateful(model):
        raise UserError(
            f"{type(model).__name__} has state-space, recurrent or convolution layers, which are sampled wrongly here: "
            "adopt and serve it, but sample from and train with PPO a model of attention layers"
        )
    count = len(prompt_ids) * n
    rollouts = Rollouts([[] for _ in range(count)], [[] for _ in range(count)], [False] * count)
    answered = range(len(prompt_ids)) if numbers is None else numbers
    by_length = sorted(answered, key=lambda prompt: len(prompt_ids[prompt]))
    was_training = model.training
    model.eval()
    with torch.no_grad(), hardware.autocast(), sharding.whole(model):
        for part in _parts(by_length, prompt_ids, n, sampling):
            _generate_part(model, [prompt_ids[prompt] for prompt in part], part, n, rollouts, sampling)
    model.train(was_training)
    stops = set(sampling.stop_ids)
    return rollouts._replace(finished=[bool(ids) and ids[-1] in stops for ids in rollouts.ids])


def join(rollouts: Rollouts) -> Rollouts:
    """The responses of all processes, each of which sampled those to some of the prompts."""
    everyone = ranks.everyone(rollouts)
    owners = [next((part for part in everyone if part.ids[i]), rollouts) for i in range(len(rollouts.ids))]
    return Rollouts(
        ids=[part.ids[i] for i, part in enumerate(owners)],
        logprobs=[part.logprobs[i] for i, part in enumerate(owners)],
        finished=[part.finished[i] for i, part in enumerate(owners)],
        by_engine=rollouts.by_engine,
    )


def _generate_part(
    model: Any,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    n: int,
    rollouts: Rollouts,
    sampling: Sampling,
) -> None:
    """Fill `rollouts` for the prompts of these numbers. Finished rows leave the batch."""
    device = hardware.device()
    draws = _uniform(sampling, [number * n + i for number in numbers for i in range(n)]).to(device)
    stops = torch.tensor(sampling.stop_ids, device=device)
    alive = torch.tensor([number * n + i for number in numbers for i in range(n)], device=device)
    cache = DynamicCache(config=model.config)
    ids, mask = _pad_left(prompts)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = _next_logits(model, ids, mask, positions, cache)
    if n > 1:
        rows = torch.arange(len(prompts), device=device).repeat_interleave(n)
        cache.batch_select_indices(rows)
        mask, positions, logits = mask[rows], positions[rows], logits[rows]
    for step in range(sampling.max_tokens):
        token, logprob = _sample_tokens(logits, sampling.temperature, draws[:, step])
        for place, t, lp in zip(alive.tolist(), token.tolist(), logprob.tolist(), strict=True):
            rollouts.ids[place].append(t)
            rollouts.logprobs[place].append(lp)
        rows = (~torch.isin(token, stops)).nonzero()[:, 0]
        if step + 1 == sampling.max_tokens or not len(rows):
            return
        if len(rows) < len(token):
            cache.batch_select_indices(rows)
            alive, mask, positions, token = alive[rows], mask[rows], positions[rows], token[rows]
            draws = draws[rows]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        positions = positions[:, -1:] + 1
        logits = _next_logits(model, token[:, None], mask, positions, cache)


def _parts(order: Sequence[int], prompts: Sequence[Sequence[int]], n: int, sampling: Sampling) -> list[list[int]]:
    """Prompts, shorter ones first, in parts that are sampled at once."""
    parts: list[list[int]] = []
    for prompt in order:
        rows = (len(parts[-1]) + 1) * n if parts else 0
        tokens = rows * (len(prompts[prompt]) + sampling.max_tokens)
        if not parts or rows > ROWS or (sampling.tokens is not None and tokens > sampling.tokens):
            parts.append([])
        parts[-1].append(prompt)
    return parts


def _uniform(sampling: Sampling, places: Sequence[int]) -> Tensor:
    """Uniform numbers in [0, 1), one for each token of these responses: (rows, max_tokens), on the CPU."""
    generator = torch.Generator()
    shape = (sampling.max_tokens,)
    return torch.stack(
        [
            torch.rand(
                shape, generator=generator.manual_seed(runs.derive_seed(sampling.seed, place)), dtype=torch.float64
            )
            for place in places
        ]
    )


def _next_logits(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
    """Logits after the last of these tokens: (rows, vocabulary), float32. The cache grows."""
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = out.logits[:, -1].float()
    return logits


def _sample_tokens(logits: Tensor, temperature: float, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Sample one token per row by its uniform number: tokens and their log-probabilities, all (rows,)."""
    if temperature == 0:
        logprobs = logits.log_softmax(-1)
        token = logprobs.argmax(-1)
    else:
        logprobs = (logits / temperature).log_softmax(-1)
        # One uniform number per row against the summed distribution: several times faster than multinomial on CPU.
        summed = logprobs.exp().cumsum(-1, dtype=torch.float64)
        token = torch.searchsorted(summed, draws[:, None] * summed[:, -1:], right=True)[:, 0].clamp(
            max=summed.shape[1] - 1
        )
    return token, logprobs.gather(1, token[:, None])[:, 0]


def _pad_left(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids (rows, longest) padded on the left, and their mask."""
    longest = max(len(p) for p in prompts)
    ids = [[0] * (longest - len(p)) + list(p) for p in prompts]
    mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    return torch.tensor(ids, device=hardware.device()), torch.tensor(mask, device=hardware.device())
