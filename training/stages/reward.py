"""The reward model: a scalar head on the fine-tuned model, trained on all pairs of each ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import tyro

from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data import reading, rendering, splits
from training.data.items import Ranking, Rankings
from training.data.usage import Usage
from training.models import building, forward, hardware, loading, optimization, probes, publishing, templates
from training.rl import batches
from training.rl.losses import Pair, ranking_loss
from training.runtime import runs
from training.runtime.configuration import parse
from training.stages import limits, planning

HELD_OUT = 0.1  # share of users whose comparisons are held out where no --validation is given
OFFSET_ROWS = 1000  # rows whose mean score is the offset
ADAM_EPS = 1e-5  # ours; PPO's value model, which starts from this one, has the same


@dataclass(frozen=True)
class Config:
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
    tokens_per_pass: int | None = None
    """Tokens that go forward at once, padding included; left out, as many as the memory takes, at most 8,192. Fewer
    need less memory and change nothing else."""
    checkpoint_activations: bool = False
    """Keep of each layer only its input for the backward pass, which computes the layer again: less memory, a third
    more work."""
    dtype: hardware.Dtype = "auto"
    """What forward passes multiply in: `auto` is bfloat16 where the hardware has it, else float32. Trained weights and
    their moments are float32; frozen models are kept in this."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm. Ours."""
    freeze_embeddings: bool = False
    """Freeze embeddings, so that words absent from the data keep their pretrained meaning."""
    context: int | None = None
    """Greatest number of tokens of a prompt with a response; longer responses are left out of their comparison. Left
    out, the model's own, at most 2,048 (Ouyang et al. 2022, appendix C)."""
    hygiene: bool = False
    """Leave out comparisons with personal information."""
    limit: int | None = None
    """Use this many comparisons at most, drawn at random."""
    seed: int = 0
    """Seed of the head and of the order of the data."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


class Data(NamedTuple):
    """Rankings, as views into the cache, and the rows whose mean score becomes 0.

    Attributes:
        offset_from: what those rows are, for the manifest.
        split_by: what training and held-out rankings differ in: user, prompt or file.
    """

    training: Rankings
    held_out: Rankings
    offset_rows: list[list[int]]
    offset_from: str
    split_by: str
    usages: list[Usage]


def train(config: Config) -> Checkpoint:
    """Train and publish a reward model."""
    check(config)
    hardware.set_threads()
    hardware.set_dtype(config.dtype)
    source = loading.load(config.model, config.home)
    renderer = templates.renderer_for(source)
    renderer.require_end()
    context = limits.context_of(source.model, config.context)
    data = prepare(config, renderer, context)
    model = building.new_scalar_head(source.path, source.tokenizer.pad_token_id, config.seed)
    sizes = data.training.sizes().tolist()
    plan = [b for epoch in range(config.epochs) for b in batches.epoch_batches(sizes, config.batch, config.seed, epoch)]

    summaries = {name: summary for usage in data.usages for name, summary in usage.summaries().items()}
    hashes = [summary["sha256"] for summary in summaries.values()]
    with runs.Run(config.home, "reward", config, [source.key, *hashes]) as run:
        if config.freeze_embeddings:
            building.freeze_embeddings(model)
        optimizer = optimization.adamw([(model, config.learning_rate)], eps=ADAM_EPS)
        budget = planning.plan(config, [planning.Trained(model)], longest_of(data), most_of(data, plan))
        run.resume(model=model, optimizer=optimizer, budget=budget)

        for step in run.steps(len(plan), "reward model"):
            optimization.set_rate(optimizer, optimization.cosine(step, len(plan)))
            loss = budget.run([model], partial(add_gradients, model, [data.training[i] for i in plan[step]]))
            norm = optimization.clip_gradients([model], config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % 5 == 0:
                run.log(step, {"loss": loss, "gradient_norm": norm}, f"loss {loss:.3f}")

        metrics = budget.run([], partial(measure, model, data.training, data.held_out))
        run.log(len(plan), {name: value for name, value in metrics.items() if isinstance(value, float)})
        scores = budget.run([], partial(scores_in_passes, model, data.offset_rows))
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
            reward_offset=sum(scores) / len(scores),
            probe=probes.reward_probe(model, data.offset_rows[: probes.PROBES]),
            config=run.config,
            data=summaries,
            seed=config.seed,
            metrics=metrics | {"offset_from": data.offset_from, "split_by": data.split_by},
        )


def check(config: Config) -> None:
    """Raise `UserError` for settings that make no sense, before anything is loaded."""
    limits.check_rates(config)
    if min(config.epochs, config.batch) < 1:
        raise UserError("--epochs and --batch must be at least 1")


def prepare(config: Config, renderer: Renderer, context: int) -> Data:
    """Comparisons, held-out comparisons and the rows of the offset as token ids; says what is used of each."""
    selection = reading.select(
        reading.COMPARISONS, config.data, limit=config.limit, seed=config.seed, hygiene=config.hygiene
    )
    rows = rendering.comparisons(config.home, selection, renderer, context)
    limits.report(rows.usage)
    usages = [rows.usage]
    if config.validation:
        others = reading.select(reading.COMPARISONS, config.validation, role="validation")
        split = splits.against(rows, rendering.comparisons(config.home, others, renderer, context))
        usages.append(split.held_out.usage)
        limits.report(split.held_out.usage)
    else:
        split = splits.hold_out(rows, HELD_OUT)
    limits.report_split(split)
    training = splits.weighted(split.training, selection.weights, config.seed).items
    if not config.demonstrations:
        responses = responses_of(training, OFFSET_ROWS, config.seed)
        origin = f"a random {len(responses):,} of all training responses"
        return Data(training, split.held_out.items, responses, origin, split.by, usages)
    written = reading.select(reading.DEMONSTRATIONS, config.demonstrations, limit=OFFSET_ROWS, seed=config.seed)
    demonstrations = rendering.demonstrations(config.home, written, renderer, context)
    limits.report(demonstrations.usage)
    offset_rows = [row.tolist() for row in demonstrations.items.ids]
    return Data(
        training, split.held_out.items, offset_rows, "demonstrations", split.by, [*usages, demonstrations.usage]
    )


def responses_of(rankings: Rankings, count: int, seed: int) -> list[list[int]]:
    """A random sample of the responses of all rankings, best and worst alike, as rows with their prompts."""
    places = rankings.places.joined()
    sample = runs.rng_for(seed, "offset").sample(range(len(places)), min(count, len(places)))
    return [rankings.rows[int(places[place])].tolist() for place in sample]


def longest_of(data: Data) -> int:
    """Tokens of the longest ranking: a prompt with all its responses goes forward in one piece."""
    rows = max(sum(ranking.lengths) for rankings in (data.training, data.held_out) for ranking in rankings)
    return max(rows, *map(len, data.offset_rows))


def most_of(data: Data, plan: Sequence[Sequence[int]]) -> int:
    """Tokens of the largest step."""
    lengths = [sum(ranking.lengths) for ranking in data.training]
    return max(sum(lengths[number] for number in step) for step in plan)


def add_gradients(model: Any, rankings: Sequence[Ranking], tokens_per_pass: int) -> float:
    """Add the gradients of the mean loss over a whole step's prompts; returns that mean.

    Each response goes forward once; a prompt's pairs are averaged, then the prompts.
    """
    loss = 0.0
    for part in batches.passes(rankings, [sum(ranking.lengths) for ranking in rankings], tokens_per_pass):
        share = loss_of(model, part) * len(part) / len(rankings)
        share.backward()
        loss += share.item()
    return loss


def scores_in_passes(model: Any, rows: Sequence[list[int]], tokens_per_pass: int) -> list[float]:
    """Raw reward of each row, in their order."""
    scores = dict[int, float]()
    with torch.no_grad():
        for part in batches.passes(range(len(rows)), list(map(len, rows)), tokens_per_pass):
            scores.update(zip(part, forward.scores_of(model, [rows[i] for i in part]).tolist(), strict=True))
    return [scores[i] for i in range(len(rows))]


def loss_of(model: Any, rankings: Sequence[Ranking]) -> Any:
    """Mean over the prompts of the mean loss of their decided pairs."""
    scores = forward.ranking_scores(model, [ranking.rows for ranking in rankings])
    groups, start = [], 0
    for ranking in rankings:
        groups.append((range(start, start + len(ranking.rows)), ranking.pairs))
        start += len(ranking.rows)
    return ranking_loss(scores, groups)


def measure(
    model: Any, training: Sequence[Ranking], held_out: Sequence[Ranking], tokens_per_pass: int
) -> dict[str, Any]:
    """Accuracy on held-out pairs, by group of labelers, beside what length alone would reach.

    The baseline prefers longer or shorter responses, in tokens, whichever the training pairs prefer. Equal scores
    count half.
    """
    scored: list[tuple[Ranking, list[float]]] = []
    with torch.no_grad():
        for part in batches.passes(held_out, [sum(ranking.lengths) for ranking in held_out], tokens_per_pass):
            values = iter(forward.ranking_scores(model, [ranking.rows for ranking in part]).tolist())
            scored += [(ranking, [next(values) for _ in ranking.rows]) for ranking in part]
    longer = sum(_right(r.lengths, r.pairs) - len(r.pairs) / 2 for r in training) >= 0
    sign = 1 if longer else -1
    metrics: dict[str, Any] = {
        "training_comparisons": len(training),
        "length_baseline": "longer" if longer else "shorter",
    }
    for group in sorted({ranking.group for ranking in held_out}):
        of_group = [(ranking, scores) for ranking, scores in scored if ranking.group == group]
        pairs = sum(len(ranking.pairs) for ranking, _ in of_group)
        right = sum(_right(scores, ranking.pairs) for ranking, scores in of_group)
        by_length = sum(_right([sign * n for n in ranking.lengths], ranking.pairs) for ranking, _ in of_group)
        metrics[f"pairs/{group}"] = pairs
        metrics[f"accuracy/{group}"] = right / pairs
        metrics[f"length_accuracy/{group}"] = by_length / pairs
    metrics["held_out_loss"] = sum(_loss(scores, ranking.pairs) for ranking, scores in scored) / len(scored)
    return metrics


def _right(values: Sequence[float], pairs: Sequence[Pair]) -> float:
    """How many pairs these values order as the labeler did; equal values count half."""
    margins = [(values[i] - values[j]) * outcome for i, j, outcome in pairs]
    return sum(1.0 if m > 0 else 0.5 if m == 0 else 0.0 for m in margins)


def _loss(values: Sequence[float], pairs: Sequence[Pair]) -> float:
    margins = [(values[i] - values[j]) * outcome for i, j, outcome in pairs]
    return sum(max(0.0, -m) + math.log1p(math.exp(-abs(m))) for m in margins) / len(margins)


def main(arguments: Sequence[str]) -> int:
    """`python -m training reward`."""
    checkpoint = train(parse(Config, "reward", arguments))
    print(checkpoint.id)
    return 0
