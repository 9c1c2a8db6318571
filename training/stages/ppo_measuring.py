"""PPO's rollouts, and what a policy is measured by: scalars of one batch of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from training.artifacts import progress
from training.models import memory
from training.rl import batches, losses
from training.rl.episodes import evaluate
from training.rl.rollouts import Rollouts, Sampling, generate, join
from training.rl.scalars import scalars_of
from training.runtime import ranks, runs

if TYPE_CHECKING:
    from training.stages.ppo import Config, Setup


def measure(
    setup: Setup, config: Config, budget: memory.Budget, rollout_budget: memory.Budget, held_out: bool = False
) -> dict[str, float]:
    """Scalars of the policy as it is now, on the batch of prompts after those of the last iteration, or on the
    held-out ones: the same prompts and random numbers every time."""
    roll_out_once = partial(roll_out_held_out if held_out else roll_out, setup, config, config.iterations)
    with progress.bar("measuring the policy"):
        prompts, rollouts = rollout_budget.run([], roll_out_once)
        rows = range(len(prompts))
        episodes = evaluate(setup.models, prompts, join(rollouts), [rows], config.temperature, budget)
    return scalars_of(episodes, losses.kl_estimators(episodes.old_logprobs, episodes.reference_logprobs))


def roll_out(setup: Setup, config: Config, iteration: int, tokens: int) -> tuple[list[list[int]], Rollouts]:
    """The prompts of an iteration and one response to each from the policy as it is."""
    rows = batches.cycle_batch(len(setup.prompts), config.batch, iteration, config.seed, "prompts")
    prompts = [setup.prompts[i].tolist() for i in rows]
    seed = runs.derive_seed(config.seed, "rollouts", iteration)
    return prompts, respond(setup, config, prompts, seed, tokens)


def roll_out_held_out(setup: Setup, config: Config, iteration: int, tokens: int) -> tuple[list[list[int]], Rollouts]:
    """The held-out prompts and one response to each from the policy as it is."""
    seed = runs.derive_seed(config.seed, "held out", iteration)
    return setup.held_out, respond(setup, config, setup.held_out, seed, tokens)


def respond(setup: Setup, config: Config, prompts: list[list[int]], seed: int, tokens: int) -> Rollouts:
    """One response to each prompt from the policy as it is, by the engine where there is one, else at most `tokens`
    tokens of them at once. Of several processes each responds to its share of the prompts."""
    sampling = Sampling(config.temperature, setup.max_tokens, setup.stops, seed, tokens)
    rollouts = setup.engine.respond(setup.models.policy, prompts, sampling) if setup.engine is not None else None
    if rollouts is not None:
        return rollouts
    return generate(setup.models.policy, prompts, 1, sampling, ranks.own_share(list(map(len, prompts))))
