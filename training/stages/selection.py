"""Which epoch's weights fine-tuning publishes: the last, or the best on held-out demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data.items import Example
from training.models import building, forward, loading, memory
from training.rl import batches, losses, rollouts
from training.runtime import ranks, runs
from training.stages import four_models

PROMPTS = 256  # held-out prompts that are answered and scored, at most


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """Options of fine-tuning over several epochs."""

    select_by: Literal["last", "loss", "reward"] = "last"
    """Which epoch's weights are published: the last, the one with the lowest loss on the held-out demonstrations, or
    the one whose answers to their prompts have the highest reward, as the paper's (Ouyang et al. 2022, section 3.5)."""
    reward: str | None = None
    """Reward model for --select-by reward: checkpoint id, stage (its newest), folder or hub id."""


class Config(Protocol):
    @property
    def select_by(self) -> Literal["last", "loss", "reward"]: ...

    @property
    def reward(self) -> str | None: ...

    @property
    def seed(self) -> int: ...

    @property
    def home(self) -> Path: ...


class Scorer(NamedTuple):
    """A reward model and what it scores: answers to prompts, (token ids)."""

    source: loading.Source
    prompts: list[list[int]]
    max_tokens: int


def check(config: SelectionOptions) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is loaded."""
    if (config.select_by == "reward") != (config.reward is not None):
        raise UserError("--select-by reward and --reward MODEL go together: give both, or neither")


def scorer(config: Config, tokenizer: Any, held_out: Sequence[Example], max_tokens: int, seed: int) -> Scorer | None:
    """The reward model of --reward with the prompts of held-out demonstrations; None where another figure selects.

    Raises:
        UserError: its tokenizer is another one.
    """
    if config.reward is None:
        return None
    source = loading.load(config.reward, config.home, "reward")
    four_models.check_tokenizers(tokenizer, source.tokenizer)
    building.freeze(source.model)
    count = min(PROMPTS, len(held_out))
    numbers = runs.rng_for(seed, "selection").sample(range(len(held_out)), count)
    return Scorer(source, [prompt_of(held_out[number]) for number in sorted(numbers)], max_tokens)


def prompt_of(example: Example) -> list[int]:
    """What comes before a demonstration's last assistant turn, with the header of that turn."""
    starts = np.flatnonzero(np.diff(np.concatenate([[0], example.mask])) == 1)
    ids: list[int] = example.ids[: starts[-1]].tolist()
    return ids


def mean_reward(scorer: Scorer, model: Any, renderer: Renderer, seed: int, budget: memory.Budget) -> dict[str, float]:
    """Mean reward of one sampled answer per prompt, unfinished ones penalised as in PPO, and the share of finished."""
    offset = scorer.source.reward_offset
    sampling = rollouts.Sampling(1.0, scorer.max_tokens, renderer.stop_ids, runs.derive_seed(seed, "selection"))
    own = ranks.own_share([len(prompt) for prompt in scorer.prompts])
    answers = rollouts.join(rollouts.generate(model, scorer.prompts, 1, sampling, own))
    rows = [renderer.extend(prompt, ids) for prompt, ids in zip(scorer.prompts, answers.ids, strict=True)]
    scores = budget.run([], partial(_own_scores, scorer.source.model, rows))
    ranks.add_up([scores])
    scores = scores - offset
    finished = torch.tensor(answers.finished, device=scores.device)
    rewards = losses.penalise_unfinished(scores, finished)
    return {"validation_reward": float(rewards.mean()), "finished": float(finished.float().mean())}


def _own_scores(model: Any, rows: Sequence[list[int]], tokens_per_pass: int) -> torch.Tensor:
    """(rows,); of several processes each one's share of them, the others' 0."""
    scores = torch.zeros(len(rows))
    with torch.no_grad():
        for part, weight in batches.own_passes(range(len(rows)), list(map(len, rows)), tokens_per_pass):
            scores[list(part)] += weight * forward.scores_of(model, [rows[i] for i in part]).float().cpu()
    return scores


def value(config: Config, figures: Mapping[str, float]) -> float:
    """What the best epoch has most of."""
    return figures["validation_reward"] if config.select_by == "reward" else -figures["validation_loss"]
