"""A stage's memory, planned and said before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch

from training.artifacts.errors import UserError
from training.models import hardware, memory, sharding
from training.rl import rollouts
from training.runtime import launchers, ranks, trackers
from training.runtime.runs import CONSOLE, NO_NUMBERS


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Options of every stage that trains a model."""

    tokens_per_pass: int | None = field(default=None, metadata=NO_NUMBERS)
    """Tokens that go forward at once, padding included; left out, as many as the memory takes, at most 1,024 on
    a CPU and 8,192 on a GPU. Fewer need less memory and change nothing else."""
    checkpoint_activations: bool = field(default=False, metadata=NO_NUMBERS)
    """Keep of each layer only its input for the backward pass, which computes the layer again: less memory, a third
    more work."""
    dtype: hardware.Dtype = "auto"
    """What forward passes multiply in: `auto` is bfloat16 where the hardware has it, else float32. Trained weights and
    their moments are float32; frozen models are kept in this."""
    shard: Literal["none", "fsdp"] = field(default="none", metadata=NO_NUMBERS)
    """With several processes: `fsdp` divides weights, gradients and moments over them (FSDP2), for models of which a
    whole copy with its moments does not fit beside each process; `none` gives each a copy. Changes nothing else."""
    log_to: tuple[trackers.Name, ...] = field(default=(), metadata=NO_NUMBERS)
    """Trackers that get the run's scalars too, where they are installed: wandb, mlflow."""


class Trained(NamedTuple):
    """A model that a run trains, with so many copies of its trained weights beside it: an average, the best so far."""

    model: Any
    copies: int = 0


def plan(config: MemoryOptions, trained: Sequence[Trained], longest: int, most: int, engine: int = 0) -> memory.Budget:
    """How many tokens go forward at once; says what the run will take.

    Args:
        trained: models whose passes come one after the other, each with its backward pass.
        longest: tokens of the longest row.
        most: tokens of a step, at most.
        engine: bytes of an engine that stays beside the training.

    Raises:
        UserError: it does not fit, with what would.
    """
    if config.tokens_per_pass is not None and config.tokens_per_pass < 1:
        raise UserError(f"--tokens-per-pass {config.tokens_per_pass}: use at least 1, or leave it out")
    if config.checkpoint_activations:
        for one in trained:
            if not one.model.supports_gradient_checkpointing:
                raise UserError(f"--checkpoint-activations: {type(one.model).__name__} cannot do it: leave it out")
            memory.checkpoint_activations(one.model)
    states = _own_states(config, trained)
    usual = min(memory.usual_tokens(one.model) for one in trained)
    tokens = max(longest, min(most, config.tokens_per_pass or usual))
    heads = max(memory.of_head(one.model, tokens) for one in trained)
    activations = max((memory.activations_of(one.model) for one in trained), key=lambda one: one.of(longest))
    budget, sentence = memory.plan(
        [
            memory.Need("gradients and moments", states),
            memory.Need("logits", heads),
            memory.Need("held by kernels", memory.of_kernels()),
            memory.Need("engine", engine),
        ],
        activations,
        longest=longest,
        most=most,
        tokens=config.tokens_per_pass,
        usual=usual,
    )
    if ranks.count() > 1:
        sentence += f", in each of {ranks.count()} processes{', which share each model' if shards(config) else ''}"
    CONSOLE.print(sentence, highlight=False, soft_wrap=True)
    budget.tokens = ranks.least(budget.tokens)
    return budget


def shards(config: MemoryOptions) -> bool:
    """Whether models are divided over the processes: by --shard, or since accelerate was told so."""
    return ranks.count() > 1 and (config.shard == "fsdp" or launchers.shards())


def divide(config: MemoryOptions, models: Sequence[Any]) -> None:
    """Divide models over the processes, where they are to be. Before the optimizer is made, which takes the parts.

    Raises:
        UserError: the processes do not start from the same weights.
    """
    if ranks.count() > 1:
        sums = [float(sum(p.detach().sum(dtype=torch.float64) for p in model.parameters())) for model in models]
        ranks.require_close(sums, "the weights to start from")
    if shards(config):
        for model in models:
            sharding.shard(model)


def plan_rollouts(config: Any, trained: Sequence[Trained], prompt: int, max_tokens: int, rows: int) -> memory.Budget:
    """How many tokens of prompts and responses are sampled at once from the first of these models.

    Args:
        config: has `rollout_tokens`.
        prompt: tokens of the longest prompt.
        rows: responses of an iteration.

    Raises:
        UserError: not one response fits.
    """
    if config.rollout_tokens is not None and config.rollout_tokens < 1:
        raise UserError(f"--rollout-tokens {config.rollout_tokens}: use at least 1, or leave it out")
    states = _own_states(config, trained)
    usable = int(memory.free() * memory.SHARE) - states
    per_row = memory.of_rollout(trained[0].model, prompt, max_tokens)
    count = min(rows, rollouts.ROWS)
    if config.rollout_tokens is not None:
        count = min(count, max(1, config.rollout_tokens // (prompt + max_tokens)))
    fitting = min(count, usable // per_row)
    if fitting < (count if config.rollout_tokens is not None else 1):
        raise UserError(
            f"{count} responses of {max_tokens} tokens take {memory.gigabytes(count * per_row)} to sample, and "
            f"{memory.gigabytes(max(0, usable))} are free beside the training: use --rollout-tokens "
            f"{max(1, usable // per_row) * (prompt + max_tokens)} or a smaller --max-tokens"
        )
    CONSOLE.print(
        f"memory: {memory.gigabytes(fitting * per_row)} while {fitting} responses are sampled at once",
        highlight=False,
        soft_wrap=True,
    )
    return memory.Budget(ranks.least(fitting * (prompt + max_tokens)), config.rollout_tokens)


def _own_states(config: MemoryOptions, trained: Sequence[Trained]) -> int:
    """`states_of` in each process."""
    return states_of(trained) // ranks.count() if shards(config) else states_of(trained)


def states_of(trained: Sequence[Trained]) -> int:
    """Bytes of gradients, moments and averages, all together."""
    return sum(memory.of_training(one.model, one.copies) for one in trained)
