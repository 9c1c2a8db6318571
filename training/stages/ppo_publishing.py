"""What PPO publishes: the policy with its probe and the figures of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from training.artifacts.checkpoints import Checkpoint
from training.models import lora, memory, probes, publishing
from training.rl.ema import Ema
from training.rl.rollouts import Sampling, generate
from training.runtime import runs
from training.stages.ppo_measuring import measure

if TYPE_CHECKING:
    from training.stages.ppo import Config, Setup, State


def publish(
    setup: Setup,
    config: Config,
    run: runs.Run,
    adapter: lora.Adapter | None,
    ema: Ema,
    state: State,
    facts: Mapping[str, Any],
    budget: memory.Budget,
    rollout_budget: memory.Budget,
) -> Checkpoint:
    """Publish the policy as it is now: with its average weights, where they are averaged.

    `facts` go to the manifest's metrics: which weights these are, where they are the best ones. Figures under `raw/`
    are those of the last iteration's rollouts and updates, of the policy as it was trained; those under `published/`
    are of the published weights, on one more batch of prompts. `score` is the mean reward, the offset subtracted and
    unfinished responses penalised.
    """
    policy, prompts = setup.models.policy, [row.tolist() for row in setup.prompts[: probes.PROBES]]
    likeliest = generate(policy, prompts, 1, Sampling(0.0, setup.max_tokens, setup.stops, config.seed))
    raw = {f"raw/{name}": value for name, value in state.last.items()}
    scalars = measure(setup, config, budget, rollout_budget)
    published = {f"published/{name}": value for name, value in scalars.items()}
    counts = {"optimizer_steps": state.optimizer_steps, "episodes": episodes_of(state, config)}
    weights = {"weights": "ema", "ema_decay": ema.decay} if config.ema > 0 else {"weights": "last"}
    by_engine = setup.engine is not None and not setup.engine.is_given_up
    sampler = {"rollouts": "vllm" if by_engine else "transformers"}
    run.log(config.iterations, published)
    return publishing.publish(
        policy,
        setup.tokenizer,
        config.home,
        stage=config.stage,
        kind="policy",
        system=setup.system,
        parents=setup.parents,
        base_model=setup.base_model,
        adapter=adapter,
        generation={"temperature": config.temperature, "top_p": 1.0, "max_tokens": setup.max_tokens},
        probe=probes.policy_probe(policy, [[*p, *r] for p, r in zip(prompts, likeliest.ids, strict=True)]),
        config=run.config,
        data=setup.summaries,
        seed=config.seed,
        metrics=counts | weights | sampler | raw | dict(facts) | published,
    )


def episodes_of(state: State, config: Config) -> int:
    """Episodes that were learned from, in all iterations."""
    return state.optimizer_steps // config.steps_per_iteration * config.batch
