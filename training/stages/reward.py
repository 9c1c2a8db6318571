"""The reward model: a scalar head on the fine-tuned model, trained on all pairs of each ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from training.artifacts import progress
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data import reading, rendering
from training.data.items import Ranking, Rankings
from training.data.usage import Usage
from training.models import (
    building,
    forward,
    hardware,
    loading,
    optimization,
    probes,
    publishing,
    shared_passes,
    templates,
)
from training.rl import batches
from training.runtime import ranks, runs
from training.runtime.configuration import parse
from training.stages import adapters, limits, planning, rankings

OFFSET_ROWS = 256  # whose mean score is the offset: its standard error is a sixteenth of the scores' spread
ADAM_EPS = 1e-5  # ours; PPO's value model, which starts from this one, has the same


@dataclass(frozen=True)
class Config(adapters.LoraOptions, planning.MemoryOptions):
    """Train a reward model on comparisons."""

    data: tuple[str, ...]
    """Comparisons: frozen rankings or public preference data, as files, folders or hub ids
    (ID[:configuration][@split]), each with an optional weight: A B=2 takes every row of A once and of B twice per
    epoch, B=0.5 a random half of B."""
    model: str = "sft"
    """Where to start: checkpoint id, stage (its newest), folder or hub id."""
    validation: tuple[str, ...] = ()
    """Held-out comparisons; left out, those of one user in ten are held out (of one prompt in ten, where fewer than
    ten users are known)."""
    demonstrations: tuple[str, ...] = ()
    """Demonstrations whose mean score becomes 0 (Ouyang et al. 2022, section 3.5); left out, a random sample of all
    training responses, good and bad, takes their place."""
    epochs: int = 1
    """Passes over the comparisons. 1 (Ouyang et al. 2022, appendix C)."""
    learning_rate: float = 9e-6
    """Peak learning rate; it falls to a tenth along a cosine. 9e-6 (Ouyang et al. 2022, appendix C)."""
    batch: int = 64
    """Prompts per step; all responses of a prompt are in the same step. 64 (Ouyang et al. 2022, appendix C)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm. Ours."""
    freeze_embeddings: bool = False
    """Freeze embeddings, so that words absent from the data keep their pretrained meaning."""
    context: int | None = None
    """Greatest number of tokens of a prompt with a response; longer responses are left out of their comparison. Left
    out, the model's own, at most 2,048 (Ouyang et al. 2022, appendix C)."""
    hygiene: bool = False
    """Leave out comparisons with personal information."""
    allow_revealed: bool = False
    """Use comparisons too that their labeler gave after the names of the models were shown."""
    limit: int | None = None
    """Use this many comparisons at most, drawn at random."""
    seed: int = 0
    """Seed of the head and of the order of the data."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = field(default=Path("runs"), metadata=runs.NO_NUMBERS)
    """Where everything is written."""


def train(config: Config) -> Checkpoint:
    """Train and publish a reward model."""
    check(config)
    hardware.set_threads()
    hardware.set_dtype(config.dtype)
    source = loading.load(config.model, config.home)
    renderer = templates.renderer_for(source)
    renderer.require_end()
    context = limits.context_of(source.model, config.context)
    with ranks.main_first():
        data = rankings.load(config, renderer, context)
        offset_rows, offset_from, usages = offset_rows_of(config, renderer, context, data.training)
    new_model = partial(building.new_scalar_head, source.path, source.tokenizer.pad_token_id, config.seed)
    model = new_model()
    sizes = data.training.sizes().tolist()
    plan = [b for epoch in range(config.epochs) for b in batches.epoch_batches(sizes, config.batch, config.seed, epoch)]

    summaries = {name: summary for usage in [*data.usages, *usages] for name, summary in usage.summaries().items()}
    hashes = [summary["sha256"] for summary in summaries.values()]
    with runs.Run(config.home, "reward", config, [source.key, *hashes]) as run:
        if config.freeze_embeddings:
            building.freeze_embeddings(model)
        adapters.add(config, model, "reward")
        longest = max(*sizes, *data.held_out.sizes().tolist(), *map(len, offset_rows))
        most = max(sum(sizes[i] for i in batch) for batch in plan)
        budget = planning.plan(config, [planning.Trained(model)], longest, most)
        planning.divide(config, [model])
        optimizer = optimization.adamw([(model, config.learning_rate)], eps=ADAM_EPS)
        run.resume(model=adapters.Trained(model), optimizer=optimizer, budget=budget)

        for step in run.steps(len(plan), "reward model"):
            optimization.set_rate(optimizer, optimization.cosine(step, len(plan)))
            batch = [data.training[i] for i in plan[step]]
            loss = ranks.total(budget.run([model], partial(rankings.add_gradients, scores_of(model, batch), batch)))
            optimization.add_up_gradients([model])
            norm = optimization.clip_gradients([model], config.max_grad_norm)
            responses = (row for ranking in batch for row in ranking.rows)
            run.check_finite(step, {"loss": loss, "gradient_norm": norm}, {"training": plan[step]}, responses)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % 5 == 0:
                run.log(step, {"loss": loss, "gradient_norm": norm}, f"loss {loss:.3f}")

        model, adapter = adapters.merge(model, new_model)
        score = scores_of(model, data.held_out)
        held_out_scores = ranks.join(budget.run([], partial(rankings.own_scores, score, data.held_out)))
        metrics = rankings.measure(held_out_scores, data.training, data.held_out)
        run.log(len(plan), {name: value for name, value in metrics.items() if isinstance(value, float)})
        scores = ranks.join(budget.run([], partial(own_scores, model, offset_rows)))
        return publishing.publish(
            model,
            source.tokenizer,
            config.home,
            stage="reward",
            kind="reward",
            system=templates.system_of(source),
            stop_ids=renderer.stop_ids,
            parents=source.parents,
            base_model=source.base_model,
            adapter=adapter,
            reward_offset=sum(scores[i] for i in range(len(scores))) / len(scores),
            probe=probes.reward_probe(model, offset_rows[: probes.PROBES]),
            config=run.config,
            data=summaries,
            seed=config.seed,
            metrics=metrics | {"offset_from": offset_from, "split_by": data.split_by},
        )


def check(config: Config) -> None:
    """Raise `UserError` for settings that make no sense, before anything is loaded."""
    limits.check_rates(config)
    adapters.check(config)
    if min(config.epochs, config.batch) < 1:
        raise UserError("--epochs and --batch must be at least 1")


def offset_rows_of(
    config: Config, renderer: Renderer, context: int, training: Rankings
) -> tuple[list[list[int]], str, list[Usage]]:
    """The rows whose mean score becomes 0, and what they are; says what is used of the demonstrations."""
    if not config.demonstrations:
        responses = responses_of(training, OFFSET_ROWS, config.seed)
        return responses, f"a random {len(responses):,} of all training responses", []
    written = reading.select(reading.DEMONSTRATIONS, config.demonstrations, limit=OFFSET_ROWS, seed=config.seed)
    demonstrations = rendering.demonstrations(config.home, written, renderer, context)
    limits.report(demonstrations.usage)
    return [row.tolist() for row in demonstrations.items.ids], "demonstrations", [demonstrations.usage]


def responses_of(rankings: Rankings, count: int, seed: int) -> list[list[int]]:
    """A random sample of the responses of all rankings, best and worst alike, as rows with their prompts."""
    places = rankings.places.joined()
    sample = runs.rng_for(seed, "offset").sample(range(len(places)), min(count, len(places)))
    return [rankings.rows[int(places[place])].tolist() for place in sample]


def scores_of(model: Any, of: Sequence[Ranking]) -> rankings.Score:
    """Scores of these rankings' responses, by the rankings' numbers."""
    return lambda numbers: shared_passes.ranking_scores(model, [of[number].rows for number in numbers])


def own_scores(model: Any, rows: Sequence[list[int]], tokens_per_pass: int) -> dict[int, float]:
    """Raw rewards by the rows' numbers; of several processes each one's share of them."""
    scores = dict[int, float]()
    with torch.no_grad():
        parts = batches.own_passes(range(len(rows)), list(map(len, rows)), tokens_per_pass)
        for part, _ in progress.track(parts, "offset"):
            scores.update(zip(part, forward.scores_of(model, [rows[i] for i in part]).tolist(), strict=True))
    return scores


def main(arguments: Sequence[str]) -> int:
    """`python -m training reward`."""
    checkpoint = train(parse(Config, "reward", arguments))
    print(checkpoint.id)
    return 0
