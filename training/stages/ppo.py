"""PPO against a reward model, and PPO-ptx with pretraining gradients (Ouyang et al. 2022, section 3.5).

objective = E[r(x, y) - beta log(pi(y|x) / pi_SFT(y|x))] + gamma E_pretrain[log pi(x)]
A bandit: one prompt, one response, one reward at its end. No discount.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from torch import Tensor

from training.artifacts.checkpoints import Checkpoint, System
from training.artifacts.errors import UserError
from training.artifacts.layouts import pretraining, prompts
from training.models import building, forward, hardware, loading, optimization, probes, publishing, templates
from training.rl import batches, losses
from training.rl.ema import Ema, decay_for
from training.rl.episodes import (
    Episodes,
    PolicyModels,
    evaluate,
    shuffle_into_minibatches,
    values_of,
)
from training.rl.rollouts import Sampling, generate
from training.runtime import runs
from training.runtime.configuration import parse
from training.stages.pretrain import document_rows, next_token_loss
from training.stages.sample import default_length, render_prompts

RATIO_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Config:
    """Train a policy against a reward model; with a --ptx-coefficient above 0 this is PPO-ptx."""

    prompts: str
    """Prompts: a file, a folder or a hub id."""
    model: str = "sft"
    """Where to start, and the reference of the KL penalty: checkpoint id, stage (its newest), folder or hub id."""
    reward: str = "reward"
    """Reward model; the value model starts from it, head included."""
    iterations: int = 500
    """Rounds of rollouts; episodes = iterations * batch."""
    batch: int = 512
    """Episodes an iteration."""
    minibatch: int = 64
    """Episodes an optimizer step."""
    epochs: int = 1
    """Passes over an iteration's episodes."""
    micro_batch: int | None = None
    """Episodes a forward pass; smaller needs less memory and changes nothing else."""
    learning_rate: float = 9e-6
    """Learning rate of the policy, constant after the warm-up."""
    value_learning_rate: float = 9e-6
    """Learning rate of the value model."""
    warmup_iterations: int = 10
    """Iterations over which the rates rise from a tenth."""
    kl_coefficient: float = 0.02
    """beta: weight of log(pi / pi_SFT) in the reward of each token."""
    kl_target: float | None = None
    """With it beta adapts until the KL of a response (nats) is this."""
    kl_horizon: int = 10_000
    """Episodes over which an adaptive beta reacts."""
    clip: float = 0.2
    """Clip range of the ratio, and of the value's change."""
    value_coefficient: float = 0.1
    """Weight of the value loss."""
    gae_lambda: float = 0.95
    """lambda of generalised advantage estimation."""
    temperature: float = 1.0
    """Sampling temperature; every log-probability is taken at it."""
    max_tokens: int | None = None
    """Greatest length of a response; the checkpoint's default if left out."""
    max_grad_norm: float = 1.0
    """Gradients of either model are scaled down to this norm."""
    freeze_embeddings: bool = False
    """Leave embeddings and output head as they are, so that words which the data lacks stay as able as others."""
    ema: float = 0.992
    """Decay of the moving average of the weights that is published; its horizon is at most a tenth of the run.
    0 publishes the last weights."""
    ptx_coefficient: float = 0.0
    """gamma: weight of the mean cross-entropy a token of pretraining text, beside PPO's mean loss a token."""
    pretraining_data: str | None = None
    """Text for the pretraining gradients."""
    ptx_documents: int = 32
    """Documents an optimizer step."""
    seed: int = 0
    """Seed of prompts, sampling and order."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""

    @property
    def stage(self) -> str:
        return "ppo-ptx" if self.ptx_coefficient > 0 else "ppo"

    @property
    def steps_per_iteration(self) -> int:
        return self.epochs * self.batch // self.minibatch


class Setup(NamedTuple):
    """What a run starts from. `inputs` are parents' ids and hashes of data."""

    models: PolicyModels
    tokenizer: Any
    parents: tuple[str, ...]
    base_model: str | None
    prompts: list[list[int]]
    documents: list[list[int]]
    max_tokens: int
    stops: tuple[int, ...]
    system: System
    summaries: dict[str, Any]
    inputs: list[str]


def train(config: Config) -> Checkpoint:
    """Run PPO and publish the policy."""
    check(config)
    hardware.set_threads()
    setup = prepare(config)
    models = setup.models
    total = config.iterations * config.steps_per_iteration

    with runs.Run(config.home, config.stage, config, setup.inputs) as run:
        if config.freeze_embeddings:
            building.freeze_embeddings(models.policy)
            building.freeze_embeddings(models.value)
        optimizer = optimization.adamw(
            [(models.policy, config.learning_rate), (models.value, config.value_learning_rate)], eps=1e-5
        )
        ema = Ema(models.policy, decay_for(config.ema, total))
        run.memory = {"kl_coefficient": config.kl_coefficient, "optimizer_steps": 0, "last": {}}
        run.resume(policy=models.policy, value=models.value, optimizer=optimizer, ema=ema)

        for iteration in run.steps(config.iterations, config.stage):
            optimization.set_rate(optimizer, min(1.0, 0.1 + 0.9 * iteration / max(1, config.warmup_iterations)))

            # 1. Rollouts: one response a prompt, from the current policy.
            chosen = batches.cycle_batch(len(setup.prompts), config.batch, iteration, config.seed, "prompts")
            asked = [setup.prompts[i] for i in chosen]
            seed = runs.derive_seed(config.seed, "rollouts", iteration)
            drawn = generate(models.policy, asked, 1, Sampling(config.temperature, setup.max_tokens, setup.stops, seed))

            # 2. Scores of whole responses; log-probabilities of policy and reference, and values, before the update.
            passes = [
                shuffle_into_minibatches(
                    asked, drawn.ids, config.minibatch, config.micro_batch, config.seed, iteration, epoch
                )
                for epoch in range(config.epochs)
            ]
            parts = [rows for minibatch in passes[0] for rows in minibatch]
            episodes = evaluate(models, asked, drawn, parts, config.temperature)

            # 3. Rewards: -beta KL at each token, the score at the last.
            kl = losses.kl_estimators(episodes.old_logprobs, episodes.reference_logprobs)
            beta = run.memory["kl_coefficient"]
            rewards = losses.token_rewards(episodes.scores, kl.k1, episodes.mask, beta)

            # 4. Advantages and returns; only then are advantages whitened, over the whole batch.
            raw, returns = losses.advantages_and_returns(
                rewards, episodes.old_values, episodes.mask, lam=config.gae_lambda
            )
            advantages = losses.whiten(raw, episodes.mask)

            # 5. One optimizer step a minibatch; the pretraining gradient goes into the same step.
            updates: list[dict[str, float]] = []
            for minibatch in (minibatch for one_pass in passes for minibatch in one_pass):
                update = ppo_gradients(models, episodes, advantages, returns, minibatch, config)
                if not updates and update["ratio_error"] > RATIO_TOLERANCE:
                    raise RuntimeError(f"the first ratio of the batch differs from 1 by {update['ratio_error']:.1e}")
                if setup.documents:
                    step = run.memory["optimizer_steps"]
                    rows = batches.cycle_batch(len(setup.documents), config.ptx_documents, step, config.seed, "ptx")
                    update["ptx_loss"] = ptx_gradients(models.policy, [setup.documents[i] for i in rows], config)
                update["gradient_norm"] = optimization.clip_gradients(
                    [models.policy, models.value], config.max_grad_norm
                )
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                ema.update(models.policy)
                updates.append(update)
                run.memory["optimizer_steps"] += 1
            if run.memory["optimizer_steps"] != (iteration + 1) * config.steps_per_iteration:
                raise RuntimeError(f"{run.memory['optimizer_steps']} optimizer steps after iteration {iteration}")

            # 6. Log; adapt beta where asked.
            scalars = scalars_of(episodes, kl, returns, updates) | {"kl_coefficient": beta}
            run.memory["last"] = scalars
            run.log(iteration, scalars, f"score {scalars['score']:.3f}  KL {scalars['kl']:.2f}")
            if config.kl_target is not None:
                run.memory["kl_coefficient"] = losses.adapt_kl_coefficient(
                    beta, scalars["kl"], config.kl_target, config.batch, config.kl_horizon
                )

        if config.ema > 0:
            ema.copy_to(models.policy)
        return publish(setup, config, run, ema)


def ppo_gradients(
    models: PolicyModels,
    episodes: Episodes,
    advantages: Tensor,
    returns: Tensor,
    minibatch: Sequence[Sequence[int]],
    config: Config,
) -> dict[str, float]:
    """Add the gradients of the clipped policy and value losses, means over all tokens of the minibatch.

    Args:
        minibatch: rows of the episodes, a micro-batch at a time.
    """
    tokens = sum(float(episodes.mask[list(rows)].sum()) for rows in minibatch)
    found = {"policy_loss": 0.0, "value_loss": 0.0, "clipped": 0.0, "ratio_error": 0.0, "approximate_kl": 0.0}
    for part in minibatch:
        rows = list(part)
        prompts, responses = [episodes.prompts[i] for i in rows], [episodes.responses[i] for i in rows]
        length = max(len(response) for response in responses)
        mask, old = episodes.mask[rows, :length], episodes.old_logprobs[rows, :length]
        logprobs = forward.response_logprobs(models.policy, prompts, responses, config.temperature)
        policy = losses.policy_loss(logprobs, old, advantages[rows, :length], mask, config.clip)
        values = values_of(models, prompts, responses)
        value = losses.value_loss(values, episodes.old_values[rows, :length], returns[rows, :length], mask, config.clip)
        ((policy.total + config.value_coefficient * value) / tokens).backward()
        found["policy_loss"] += policy.total.item() / tokens
        found["value_loss"] += value.item() / tokens
        found["clipped"] += policy.clipped.item() / tokens
        found["ratio_error"] = max(found["ratio_error"], float((policy.ratio - 1).abs().max()))
        found["approximate_kl"] += float((losses.kl_estimators(old, logprobs.detach()).k3 * mask).sum()) / tokens
    return found


def ptx_gradients(policy: Any, documents: Sequence[list[int]], config: Config) -> float:
    """Add gamma times the gradient of the mean cross-entropy a token of these documents. Returns that mean."""
    tokens = sum(len(row) - 1 for row in documents)
    total = 0.0
    ordered = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    for rows in batches.chunks(ordered, config.micro_batch):
        loss = next_token_loss(policy, [documents[i] for i in rows]) / tokens
        (config.ptx_coefficient * loss).backward()
        total += loss.item()
    return total


def scalars_of(episodes: Episodes, kl: losses.KL, returns: Tensor, updates: list[dict[str, float]]) -> dict[str, float]:
    """What is logged of an iteration: means over episodes or tokens, and over the updates."""
    mask = episodes.mask
    unexplained = losses.masked_mean((returns - episodes.old_values) ** 2, mask)
    spread = losses.masked_mean((returns - losses.masked_mean(returns, mask)) ** 2, mask)
    return {
        "score": float(episodes.scores.mean()),
        "kl": float((kl.k1 * mask).sum(1).mean()),
        "kl_k2": float((kl.k2 * mask).sum(1).mean()),
        "kl_k3": float((kl.k3 * mask).sum(1).mean()),
        "entropy": -float(losses.masked_mean(episodes.old_logprobs, mask)),
        "response_tokens": float(mask.sum(1).mean()),
        "finished": float(episodes.finished.float().mean()),
        "sampler_gap": episodes.sampler_gap,
        "value_explains": 1 - float(unexplained / spread),
        "first_ratio_error": updates[0]["ratio_error"],
    } | {name: sum(update[name] for update in updates) / len(updates) for name in updates[0] if name != "ratio_error"}


def prepare(config: Config) -> Setup:
    """Load the models models, the prompts and the pretraining documents."""
    data = prompts.load(runs.at_home(config.home, config.prompts))
    source = loading.load(config.model, config.home)
    judge = loading.load(config.reward, config.home, "reward")
    tokenizer = source.tokenizer
    if tokenizer.get_vocab() != judge.tokenizer.get_vocab() or tokenizer.chat_template != judge.tokenizer.chat_template:
        raise UserError("policy and reward model have different tokenizers: train the reward model from this policy")
    skipped: Counter[str] = Counter()
    max_tokens = config.max_tokens or default_length(source)
    asked = [ids for _, ids in render_prompts(source, data.records, max_tokens, skipped)]
    documents, text = ptx_documents(tokenizer, config, forward.context_of(source.model))
    summaries = {"prompts": data.summary() | {"unusable": dict(skipped)}} | text
    renderer = templates.renderer_for(source)
    renderer.require_end()
    manifest = judge.checkpoint.manifest if judge.checkpoint else None
    reference = copy.deepcopy(source.model).requires_grad_(False)
    value = copy.deepcopy(judge.model)
    offset = (manifest.reward_offset if manifest else None) or 0.0
    models = PolicyModels(source.model, reference, judge.model.requires_grad_(False), value, offset, renderer.extend)
    return Setup(
        models,
        tokenizer,
        (*source.parents, *judge.parents),
        source.base_model,
        asked,
        documents,
        max_tokens,
        renderer.stop_ids,
        templates.system_of(source),
        summaries,
        [source.key, judge.key, *(summary["sha256"] for summary in summaries.values())],
    )


def ptx_documents(tokenizer: Any, config: Config, context: int) -> tuple[list[list[int]], dict[str, Any]]:
    """As many pretraining rows as the run uses, drawn from the first ten times as many; and their source."""
    if config.ptx_coefficient <= 0 or config.pretraining_data is None:
        return [], {}
    wanted = config.iterations * config.steps_per_iteration * config.ptx_documents
    text = pretraining.load(runs.at_home(config.home, config.pretraining_data), limit=10 * wanted)
    chosen = runs.rng_for(config.seed, "ptx").sample(text.records, min(wanted, len(text.records)))
    return document_rows(tokenizer, chosen, context), {"pretraining": text.summary()}


def check(config: Config) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is loaded."""
    if config.ptx_coefficient > 0 and config.pretraining_data is None:
        raise UserError("--ptx-coefficient needs --pretraining-data FILE")
    if min(config.iterations, config.epochs, config.batch, config.minibatch) < 1:
        raise UserError("--iterations, --epochs, --batch and --minibatch must be at least 1")
    if config.batch % config.minibatch:
        raise UserError(f"--batch {config.batch} is no multiple of --minibatch {config.minibatch}: change one")
    if config.temperature <= 0:
        raise UserError("--temperature must be above 0: PPO learns from samples")


def publish(setup: Setup, config: Config, run: runs.Run, ema: Ema) -> Checkpoint:
    """Publish the policy with a probe of its own likeliest answers."""
    policy, asked = setup.models.policy, setup.prompts[: probes.PROBES]
    drawn = generate(policy, asked, 1, Sampling(0.0, setup.max_tokens, setup.stops, config.seed))
    last = {f"last/{name}": value for name, value in run.memory["last"].items()}
    counts = {"optimizer_steps": run.memory["optimizer_steps"], "episodes": config.iterations * config.batch}
    weights = {"weights": "ema", "ema_decay": ema.decay} if config.ema > 0 else {"weights": "last"}
    return publishing.publish(
        policy,
        setup.tokenizer,
        config.home,
        stage=config.stage,
        kind="policy",
        system=setup.system,
        parents=setup.parents,
        base_model=setup.base_model,
        generation={"temperature": config.temperature, "top_p": 1.0, "max_tokens": setup.max_tokens},
        probe=probes.policy_probe(policy, [[*p, *r] for p, r in zip(asked, drawn.ids, strict=True)]),
        config=run.config,
        data=setup.summaries,
        seed=config.seed,
        metrics=counts | weights | last,
    )


def main(arguments: Sequence[str]) -> int:
    """`python -m training ppo`."""
    checkpoint = train(parse(Config, "ppo", arguments))
    print(checkpoint.id)
    return 0
