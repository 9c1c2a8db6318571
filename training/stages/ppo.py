"""PPO against a reward model, and PPO-ptx with pretraining gradients (Ouyang et al. 2022, section 3.5).

objective = E[r(x, y) - beta log(pi(y|x) / pi_SFT(y|x))] + gamma E_pretrain[log pi(x)]
A bandit: one prompt, one response, one reward at its end. No discount.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from torch import Tensor

from training.artifacts.checkpoints import Checkpoint, System
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data import lengths, reading, rendering, splits
from training.data.items import Rows
from training.data.ragged import Ragged
from training.models import building, hardware, loading, lora, memory, optimization, probes, publishing, templates
from training.rl import batches, losses
from training.rl.ema import Ema, decay_for
from training.rl.episodes import Episodes, PolicyModels, evaluate, shuffle_into_minibatches
from training.rl.notices import Notices
from training.rl.rollouts import Rollouts, Sampling, generate, join
from training.rl.scalars import scalars_of, update_scalars
from training.rl.updates import ppo_gradients
from training.runtime import ranks, runs
from training.runtime.configuration import parse
from training.stages import adapters, four_models, limits, planning, scorers, text, watching
from training.stages.pretrain import next_token_loss

RATIO_TOLERANCE = 1e-5
ADAM_EPS = 1e-5  # of the authors' earlier code (Ziegler et al. 2019); the paper does not say


@dataclass(frozen=True)
class Config(adapters.LoraOptions, planning.MemoryOptions, watching.WatchOptions):
    """Train a policy against a reward model; with a --ptx-coefficient above 0 this is PPO-ptx."""

    prompts: tuple[str, ...]
    """Prompts: files, folders or hub ids (ID[:configuration][@split]), each with an optional weight."""
    model: str = "sft"
    """Where to start: checkpoint id, stage (its newest), folder or hub id."""
    reference: str | None = None
    """Reference of the KL penalty; left out, the policy as it starts (Ouyang et al. 2022, section 3.5)."""
    reward: tuple[str, ...] = ("reward",)
    """Reward model. The value model starts from it, head included (Ouyang et al. 2022, appendix C). Several are added
    up, each with an optional weight (A B=0.5), and reported one by one; the value model starts from the first. One with
    another tokenizer than the policy's reads its text, and the value model then starts from the policy."""
    iterations: int = 500
    """Rounds of rollouts; episodes = iterations * batch. 500 * 512 = 256k episodes (Ouyang et al. 2022, appendix C)."""
    batch: int = 512
    """Episodes per iteration. 512 (Ouyang et al. 2022, appendix C)."""
    minibatch: int = 64
    """Episodes per optimizer step. 64 (Ouyang et al. 2022, appendix C)."""
    epochs: int = 1
    """Passes over the episodes of an iteration. 1 (Ouyang et al. 2022, appendix C)."""
    rollout_tokens: int | None = field(default=None, metadata=runs.NO_NUMBERS)
    """Tokens of prompts and responses that are sampled at once; left out, 128 responses, or as many as the memory
    takes. Fewer need less memory and change nothing else."""
    learning_rate: float = 9e-6
    """Learning rate of the policy, constant after the warm-up. Ours: that of the value model."""
    value_learning_rate: float = 9e-6
    """Learning rate of the value model. 9e-6 (Ouyang et al. 2022, appendix C)."""
    warmup_iterations: int = 10
    """Iterations over which the rates rise from a tenth. 10 (Ouyang et al. 2022, appendix C)."""
    kl_coefficient: float = 0.02
    """beta: weight of log(pi / pi_SFT) in the reward of each token. 0.02 (Ouyang et al. 2022, appendix C)."""
    kl_target: float | None = None
    """With it beta adapts until the KL per response (nats) is this (Ziegler et al. 2019, section 2.2)."""
    kl_horizon: int = 10_000
    """Episodes over which an adaptive beta reacts. 10,000 is the authors' earlier code's (Ziegler et al. 2019)."""
    clip: float = 0.2
    """Clip range of the ratio (0.2: Ouyang et al. 2022, appendix C), and of the value's change (ours)."""
    value_coefficient: float = 0.1
    """Weight of the value loss. 0.1 is not in the paper: it is the authors' earlier code's (Ziegler et al. 2019)."""
    gae_lambda: float = 0.95
    """lambda of generalised advantage estimation. 0.95 is not in the paper: it is the authors' earlier code's."""
    temperature: float = 1.0
    """Sampling temperature; every log-probability is taken at it. 1 (Ouyang et al. 2022, appendix C)."""
    context: int | None = None
    """Greatest number of tokens of prompt and response together; left out, the model's own, at most 2,048
    (Ouyang et al. 2022, appendix C)."""
    max_prompt_tokens: int = lengths.PROMPT
    """Longer prompts are left out, never cut. 1k (Ouyang et al. 2022, appendix C)."""
    max_tokens: int | None = None
    """Greatest length of a response in tokens; left out, the checkpoint's default, at most 1,024
    (Ouyang et al. 2022, appendix C)."""
    max_grad_norm: float = 1.0
    """Gradients of either model are scaled down to this norm. Ours."""
    freeze_embeddings: bool = False
    """Freeze embeddings and output head, so that words absent from the data keep their pretrained meaning."""
    ema: float = 0.992
    """Decay of the moving average of the weights that is published; 0 publishes the last weights. 0.992 (Ouyang et
    al. 2022, appendix C); ours: corrected for its start, and its horizon is at most a tenth of the run."""
    ptx_coefficient: float = 0.0
    """gamma: weight of the mean cross-entropy per token of pretraining text, beside PPO's mean loss per token. The
    paper's PPO-ptx has 27.8 on its own scale (Ouyang et al. 2022, appendix C); 0 is PPO without text."""
    pretraining_data: tuple[str, ...] = ()
    """Text for the pretraining gradients: files, folders or hub ids."""
    ptx_documents: int = 32
    """Documents per optimizer step. Ours: half as many as episodes, where the paper takes 8 times as many."""
    hygiene: bool = False
    """Leave out repeated prompts, those beyond 200 per user, and those with personal information."""
    limit: int | None = None
    """Use this many prompts at most, drawn at random."""
    seed: int = 0
    """Seed of prompts, sampling and order."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = field(default=Path("runs"), metadata=runs.NO_NUMBERS)
    """Where everything is written."""

    @property
    def stage(self) -> str:
        return "ppo-ptx" if self.ptx_coefficient > 0 else "ppo"

    @property
    def steps_per_iteration(self) -> int:
        return self.epochs * self.batch // self.minibatch


@dataclass
class State:
    """The numbers that PPO carries from one iteration to the next, beside models and optimizer."""

    kl_coefficient: float
    """beta, which may adapt."""
    optimizer_steps: int = 0
    """Steps so far, over all iterations."""
    last: dict[str, float] = field(default_factory=dict)
    """Scalars of the newest iteration, of the raw policy (not the moving average)."""

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kl_coefficient = state_dict["kl_coefficient"]
        self.optimizer_steps = state_dict["optimizer_steps"]
        self.last = state_dict["last"]


class Setup(NamedTuple):
    """What a run starts from.

    Attributes:
        prompts: token ids, each with the header of the answer to come.
        held_out: those that the policy is measured on along the way; none where it is not.
        documents: rows of text, none without pretraining gradients.
        stops: ids that end a response.
        summaries: what the manifest keeps of the data.
        inputs: parents' ids and hashes of data.
    """

    models: PolicyModels
    tokenizer: Any
    system: System
    parents: tuple[str, ...]
    base_model: str | None
    prompts: Ragged
    held_out: list[list[int]]
    documents: Ragged
    max_tokens: int
    stops: tuple[int, ...]
    summaries: dict[str, Any]
    inputs: list[str]


def train(config: Config) -> Checkpoint:
    """Run PPO and publish the policy."""
    check(config)
    hardware.set_threads()
    hardware.set_dtype(config.dtype)
    setup = prepare(config)
    models = setup.models
    with runs.Run(config.home, config.stage, config, setup.inputs) as run:
        if config.freeze_embeddings:
            building.freeze_embeddings(models.policy)
            building.freeze_embeddings(models.value)
        budget, rollout_budget = plan_memory(setup, config)
        planning.divide(
            config, [models.policy, models.reference, models.value, *(reward.model for reward in models.rewards)]
        )
        optimizer = optimization.adamw(
            [(models.policy, config.learning_rate), (models.value, config.value_learning_rate)], eps=ADAM_EPS
        )
        ema = Ema(models.policy, decay_for(config.ema, total_steps(config)))
        state = State(config.kl_coefficient)
        notices, watch = Notices(), watching.Watch(config)
        run.resume(
            policy=adapters.Trained(models.policy), value=adapters.Trained(models.value), optimizer=optimizer,
            ema=ema, state=state, notices=notices, watch=watch, budget=budget, rollout_budget=rollout_budget,
        )  # fmt: skip

        for iteration in run.steps(config.iterations, config.stage):
            optimization.set_rate(optimizer, min(1.0, 0.1 + 0.9 * iteration / max(1, config.warmup_iterations)))

            # 1. Rollouts: one response per prompt, from the current policy.
            prompts, rollouts = rollout_budget.run([], partial(roll_out, setup, config, iteration))
            rollouts = join(rollouts)

            # 2. Scores of whole responses; log-probabilities of policy and reference, and values, before the update.
            epochs = [
                shuffle_into_minibatches(len(prompts), config.minibatch, config.seed, iteration, epoch)
                for epoch in range(config.epochs)
            ]
            episodes = evaluate(models, prompts, rollouts, epochs[0], config.temperature, budget)
            tokens_per_pass = budget.tokens

            # 3. Rewards: -beta KL at each token, the score at the last.
            kl = losses.kl_estimators(episodes.old_logprobs, episodes.reference_logprobs)
            beta = state.kl_coefficient
            rewards = losses.token_rewards(episodes.scores, kl.k1, episodes.mask, beta)

            # 4. Advantages and returns; only then are advantages whitened, over the whole batch.
            advantages, returns = losses.advantages_and_returns(
                rewards, episodes.old_values, episodes.mask, lam=config.gae_lambda
            )
            advantages = losses.whiten(advantages, episodes.mask)

            # 5. One optimizer step per minibatch; the pretraining gradient goes into the same step.
            updates: list[dict[str, float]] = []
            for minibatch in (minibatch for epoch in epochs for minibatch in epoch):
                documents = documents_of(setup, config, state.optimizer_steps)
                update = budget.run(
                    [models.policy, models.value],
                    partial(add_gradients, models, config, episodes, advantages, returns, minibatch, documents),
                )
                update = ranks.totals(update, largest=["ratio_error"])
                optimization.add_up_gradients([models.policy, models.value])
                same_passes = budget.tokens == tokens_per_pass  # else memory ran out in between
                if not updates and same_passes and update["ratio_error"] > RATIO_TOLERANCE:
                    raise RuntimeError(f"the first ratio of the batch differs from 1 by {update['ratio_error']:.1e}")
                update["gradient_norm"] = optimization.clip_gradients(
                    [models.policy, models.value], config.max_grad_norm
                )
                rows = rows_of(episodes, minibatch, documents)
                run.check_finite(state.optimizer_steps, update, {"episodes": minibatch}, rows)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                ema.update(models.policy)
                updates.append(update)
                state.optimizer_steps += 1
            if state.optimizer_steps != (iteration + 1) * config.steps_per_iteration:
                raise RuntimeError(f"{state.optimizer_steps} optimizer steps after iteration {iteration}")

            # 6. Log; adapt beta where it has a target.
            state.last = scalars_of(episodes, kl) | update_scalars(episodes, returns, updates)
            state.last["kl_coefficient"] = beta
            for sentence in notices.look(state.last):
                runs.CONSOLE.print(f"iteration {iteration}: {sentence}", highlight=False, markup=False)
            scalars = state.last | notices.scalars()
            run.log(iteration, scalars, f"score {state.last['score']:.3f}  KL {state.last['kl']:.2f}")
            if config.kl_target is not None:
                state.kl_coefficient = losses.adapt_kl_coefficient(
                    beta, state.last["kl"], config.kl_target, config.batch, config.kl_horizon
                )

            # 7. Measure what would be published, where that is due; a KL beyond its limit ends the run.
            if watch.is_due(iteration, state.last["kl"]):
                with ema.applied(models.policy) if config.ema > 0 else nullcontext():
                    figures = measure(setup, config, budget, rollout_budget, held_out=True)
                    run.log(iteration, {f"held_out/{name}": value for name, value in figures.items()})
                    if watch.judge(models.policy, iteration, state.last["kl"], figures):
                        runs.CONSOLE.print(f"iteration {iteration}: the KL is beyond --kl-limit {config.kl_limit}: end")
                        run.end()

        if watch.takes_best():
            watch.best.copy_to(models.policy)
        elif config.ema > 0:
            ema.copy_to(models.policy)
        policy, adapter = adapters.merge(models.policy, lambda: loading.load(config.model, config.home).model)
        setup = setup._replace(models=models._replace(policy=policy))
        facts = watch.facts() if watch.takes_best() else {}
        return publish(setup, config, run, adapter, ema, state, facts, budget, rollout_budget)


def plan_memory(setup: Setup, config: Config) -> tuple[memory.Budget, memory.Budget]:
    """Tokens per pass and tokens sampled at once; says what the run will take."""
    copies = (config.ema > 0) + (config.ema > 0 and config.is_watched) + config.is_watched
    policy, value = planning.Trained(setup.models.policy, copies), planning.Trained(setup.models.value)
    prompt = max(int(setup.prompts.lengths.max()), *map(len, setup.held_out), 0)
    longest = max(prompt + setup.max_tokens, *map(int, setup.documents.lengths), 0)
    budget = planning.plan(config, [policy, value], longest, config.minibatch * (prompt + setup.max_tokens))
    return budget, planning.plan_rollouts(config, [policy, value], prompt, setup.max_tokens, config.batch)


def documents_of(setup: Setup, config: Config, step: int) -> list[Any]:
    """The rows of text of an optimizer step; none without pretraining gradients."""
    if not setup.documents:
        return []
    rows = batches.cycle_batch(len(setup.documents), config.ptx_documents, step, config.seed, "ptx")
    return [setup.documents[i] for i in rows]


def add_gradients(
    models: PolicyModels,
    config: Config,
    episodes: Episodes,
    advantages: Tensor,
    returns: Tensor,
    minibatch: Sequence[int],
    documents: Sequence[Any],
    tokens_per_pass: int,
) -> dict[str, float]:
    """Add the gradients of an optimizer step, those of its text too; returns figures for the log. Of several processes
    each adds its own part of both."""
    update = ppo_gradients(
        models,
        episodes,
        advantages,
        returns,
        minibatch,
        tokens_per_pass=tokens_per_pass,
        temperature=config.temperature,
        clip=config.clip,
        value_coefficient=config.value_coefficient,
    )
    if documents:
        update["ptx_loss"] = ptx_gradients(models.policy, documents, config.ptx_coefficient, tokens_per_pass)
    return update


def rows_of(episodes: Episodes, minibatch: Sequence[int], documents: Sequence[Any]) -> Iterator[Any]:
    """Token ids of an optimizer step: prompts with their responses, then text."""
    yield from ([*episodes.prompts[i], *episodes.responses[i]] for i in minibatch)
    yield from documents


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
    """One response to each prompt from the policy as it is, at most `tokens` tokens of them at once. Of several
    processes each responds to its share of the prompts."""
    sampling = Sampling(config.temperature, setup.max_tokens, setup.stops, seed, tokens)
    return generate(setup.models.policy, prompts, 1, sampling, ranks.own_share(list(map(len, prompts))))


def ptx_gradients(policy: Any, documents: Sequence[Any], coefficient: float, tokens_per_pass: int) -> float:
    """Add gamma times the gradient of the mean cross-entropy per token of these documents. Returns that mean. Of
    several processes each adds its own part of both."""
    tokens = sum(len(row) - 1 for row in documents)
    total = 0.0
    for rows, weight in batches.own_passes(documents, list(map(len, documents)), tokens_per_pass):
        loss = weight * next_token_loss(policy, rows) / tokens
        (coefficient * loss).backward()
        total += loss.item()
    return total


def prepare(config: Config) -> Setup:
    """Load policy and reward model, the prompts and the pretraining documents; says what is used of each."""
    loaded = four_models.load(config)
    source = loaded.source
    renderer = templates.renderer_for(source)
    renderer.require_end()
    context = limits.context_of(source.model, config.context)
    max_tokens = limits.response_length(source, context, config.max_tokens)
    longest = limits.prompt_length(context, max_tokens, config.max_prompt_tokens)
    needed = total_steps(config) * config.ptx_documents if config.ptx_coefficient > 0 else 0
    with ranks.main_first():
        prompts = load_prompts(config, renderer, longest)
        documents, usages = text.load(config.home, config.pretraining_data, renderer, context, needed, config.seed)
        held_out = load_held_out(config, renderer, longest, prompts) if config.held_out_prompts else prompts
    usages = [prompts.usage, *([held_out.usage] if config.held_out_prompts else []), *usages]
    summaries = {name: summary for usage in usages for name, summary in usage.summaries().items()}
    rewards = scorers.rewards_of(
        loaded.scorers,
        renderer,
        lambda: scorers.conversations_of(selections(config), renderer, longest),
    )
    offset = rewards[0].offset if loaded.value_is_scorer else 0.0
    models = PolicyModels(source.model, loaded.reference, loaded.value, rewards, offset)
    return Setup(
        models,
        source.tokenizer,
        templates.system_of(source),
        (*source.parents, *(parent for scorer in loaded.scorers for parent in scorer.source.parents)),
        source.base_model,
        prompts.items,
        watching.sample(held_out.items, config) if config.is_watched else [],
        documents,
        max_tokens,
        renderer.stop_ids,
        summaries,
        [source.key, *loaded.keys, *(summary["sha256"] for summary in summaries.values())],
    )


def select_prompts(config: Config) -> reading.Selection:
    """The prompts to learn from."""
    return reading.select(
        reading.PROMPTS,
        config.prompts,
        limit=config.limit,
        seed=config.seed,
        hygiene=config.hygiene,
    )


def selections(config: Config) -> list[reading.Selection]:
    """All prompts of a run, those that it is measured on too."""
    return [select_prompts(config), *([watching.select(config)] if config.held_out_prompts else [])]


def load_prompts(config: Config, renderer: Renderer, longest: int) -> Rows[Ragged]:
    """Prompts of at most `longest` tokens."""
    selection = select_prompts(config)
    rows = rendering.prompts(config.home, selection, renderer, longest)
    limits.report(rows.usage)
    return splits.weighted(rows, selection.weights, config.seed)


def load_held_out(config: Config, renderer: Renderer, longest: int, training: Rows[Ragged]) -> Rows[Ragged]:
    """Held-out prompts of at most `longest` tokens, none of which the policy learns from."""
    rows = rendering.prompts(config.home, watching.select(config), renderer, longest)
    limits.report(rows.usage)
    rest = watching.apart(training, rows)
    if len(rest) < len(rows):
        limits.report(rest.usage)
    return rest


def total_steps(config: Config) -> int:
    """Optimizer steps of the whole run."""
    return config.iterations * config.steps_per_iteration


def check(config: Config) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is loaded."""
    limits.check_rates(config)
    adapters.check(config)
    watching.check(config)
    if config.ptx_coefficient > 0 and not config.pretraining_data:
        raise UserError("--ptx-coefficient needs --pretraining-data FILE")
    if min(config.iterations, config.epochs, config.batch, config.minibatch, config.ptx_documents) < 1:
        raise UserError("--iterations, --epochs, --batch, --minibatch and --ptx-documents must be at least 1")
    if config.batch % config.minibatch:
        raise UserError(f"--batch {config.batch} is not a multiple of --minibatch {config.minibatch}: change one")
    if config.temperature <= 0:
        raise UserError("--temperature must be above 0: PPO learns from samples")


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
        metrics=counts | weights | raw | dict(facts) | published,
    )


def episodes_of(state: State, config: Config) -> int:
    """Episodes that were learned from, in all iterations."""
    return state.optimizer_steps // config.steps_per_iteration * config.batch


def measure(
    setup: Setup, config: Config, budget: memory.Budget, rollout_budget: memory.Budget, held_out: bool = False
) -> dict[str, float]:
    """Scalars of the policy as it is now, on the batch of prompts after those of the last iteration, or on the
    held-out ones: the same prompts and random numbers every time."""
    roll_out_once = partial(roll_out_held_out if held_out else roll_out, setup, config, config.iterations)
    prompts, rollouts = rollout_budget.run([], roll_out_once)
    rows = range(len(prompts))
    episodes = evaluate(setup.models, prompts, join(rollouts), [rows], config.temperature, budget)
    return scalars_of(episodes, losses.kl_estimators(episodes.old_logprobs, episodes.reference_logprobs))


def main(arguments: Sequence[str]) -> int:
    """`python -m training ppo`."""
    checkpoint = train(parse(Config, "ppo", arguments))
    print(checkpoint.id)
    return 0
