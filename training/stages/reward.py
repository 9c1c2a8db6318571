"""The reward model: a scalar head on the fine-tuned model, trained on all pairs of each ranking."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from training.artifacts import progress
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.comparisons import Comparison, pairs_of
from training.artifacts.errors import UserError
from training.artifacts.layouts import comparisons, demonstrations
from training.artifacts.loading import Loaded
from training.artifacts.rendering import Renderer
from training.data import hygiene
from training.data.rendering import plain, usable_rows
from training.models import building, forward, hardware, loading, optimization, probes, publishing, templates
from training.rl import batches
from training.rl.losses import Pair, ranking_loss
from training.runtime import runs
from training.runtime.configuration import parse

OFFSET_ROWS = 1000  # demonstrations whose mean score is the offset


@dataclass(frozen=True)
class Config:
    """Train a reward model on comparisons."""

    data: str
    """Comparisons: frozen rankings, or public preference data (a file, a folder or a hub id)."""
    model: str = "sft"
    """Where to start: checkpoint id, stage (its newest), folder or hub id."""
    validation: str | None = None
    """Held-out comparisons; without it one user in ten (or prompt, without users) is held out."""
    demonstrations: str | None = None
    """Demonstrations whose mean score becomes 0; without it the training responses take their place."""
    epochs: int = 1
    """Passes over the comparisons."""
    learning_rate: float = 9e-6
    """Peak learning rate; it falls to a tenth along a cosine."""
    batch: int = 64
    """Prompts a step; all responses of a prompt are in the same step."""
    micro_batch: int | None = None
    """Prompts a forward pass; smaller needs less memory and changes nothing else."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    freeze_embeddings: bool = False
    """Leave embeddings and output head as they are, so that words which the data lacks stay as able as others."""
    limit: int | None = None
    """Use this many comparisons at most."""
    seed: int = 0
    """Seed of the head and of the order of the data."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


class Ranking(NamedTuple):
    """One comparison as token ids: a row a response, and the pairs among them."""

    rows: list[list[int]]
    pairs: list[Pair]
    words: list[int]  # length of each response's text in words
    group: str


def train(config: Config) -> Checkpoint:
    """Train and publish a reward model."""
    hardware.set_threads()
    data = comparisons.load(runs.at_home(config.home, config.data), limit=config.limit)
    training, validation, summaries = _split(data, config)
    source = loading.load(config.model, config.home)
    tokenizer, context = source.tokenizer, forward.context_of(source.model)
    model = building.new_scalar_head(source.path, tokenizer.pad_token_id, config.seed)
    renderer = templates.renderer_for(source)
    renderer.require_end()
    skipped: Counter[str] = Counter()
    rankings = rankings_of(renderer, training, context, skipped)
    held_out = rankings_of(renderer, validation, context, skipped)
    if not rankings or not held_out:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in skipped.most_common(3))
        raise UserError(f"{config.data} leaves no comparison for training and validation ({reasons}): give more data")
    answers, more = _answers(renderer, rankings, context, config)
    summaries = {"comparisons": data.summary() | {"unusable": dict(skipped)}} | summaries | more
    sizes = [sum(map(len, ranking.rows)) for ranking in rankings]
    plan = [b for epoch in range(config.epochs) for b in batches.epoch_batches(sizes, config.batch, config.seed, epoch)]

    hashes = [summary["sha256"] for summary in summaries.values()]
    with runs.Run(config.home, "reward", config, [source.key, *hashes]) as run:
        if config.freeze_embeddings:
            building.freeze_embeddings(model)
        optimizer = optimization.adamw([(model, config.learning_rate)], eps=1e-5)
        run.resume(model=model, optimizer=optimizer)

        for step in run.steps(len(plan), "reward model"):
            optimization.set_rate(optimizer, optimization.cosine(step, len(plan)))
            # Each response goes forward once; a prompt's pairs are averaged, then the prompts of the whole batch.
            loss = 0.0
            for part in batches.chunks(plan[step], config.micro_batch):
                chosen = [rankings[i] for i in part]
                share = loss_of(model, chosen) * len(chosen) / len(plan[step])
                share.backward()
                loss += share.item()
            norm = optimization.clip_gradients([model], config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % 5 == 0:
                run.log(step, {"loss": loss, "gradient_norm": norm}, f"loss {loss:.3f}")

        metrics = measure(model, rankings, held_out)
        run.log(len(plan), {name: value for name, value in metrics.items() if isinstance(value, float)})
        offset = sum(map(float, forward.batched(lambda rows: forward.scores_of(model, rows), 64, answers))) / len(
            answers
        )
        return publishing.publish(
            model,
            tokenizer,
            config.home,
            stage="reward",
            kind="reward",
            system=templates.system_of(source),
            parents=source.parents,
            base_model=source.base_model,
            reward_offset=offset,
            probe=probes.reward_probe(model, answers[: probes.PROBES]),
            config=run.config,
            data=summaries,
            seed=config.seed,
            metrics=metrics | {"offset_from": "demonstrations" if config.demonstrations else "training responses"},
        )


def loss_of(model: Any, chosen: Sequence[Ranking]) -> Any:
    """Mean over the prompts of the mean loss of their decided pairs."""
    scores = forward.ranking_scores(model, [ranking.rows for ranking in chosen])
    groups, start = [], 0
    for ranking in chosen:
        groups.append((range(start, start + len(ranking.rows)), ranking.pairs))
        start += len(ranking.rows)
    return ranking_loss(scores, groups)


def rankings_of(renderer: Renderer, found: Sequence[Comparison], context: int, skipped: Counter[str]) -> list[Ranking]:
    """Comparisons as token ids; responses and comparisons that cannot be used are counted in `skipped`."""
    conversations = [[*plain(c.messages), {"role": "assistant", "content": r.text}] for c in found for r in c.responses]
    with progress.bar(f"rendering {len(conversations):,} responses"):
        rows = iter(usable_rows(renderer, conversations, context, skipped))
    rankings = []
    for comparison in found:
        kept = [next(rows) for _ in comparison.responses]
        place = {old: new for new, old in enumerate(i for i, row in enumerate(kept) if row is not None)}
        pairs = [(place[i], place[j], o) for i, j, o in pairs_of(comparison) if i in place and j in place]
        ties = sum(outcome == 0 for _, _, outcome in pairs)
        if ties == len(pairs):
            skipped["no decided pair"] += 1
            continue
        skipped["tied pair"] += ties
        rankings.append(
            Ranking(
                rows=[row for row in kept if row is not None],
                pairs=[pair for pair in pairs if pair[2] != 0],
                words=[len(comparison.responses[i].text.split()) for i in place],
                group=comparison.labeler_group or "all",
            )
        )
    return rankings


def measure(model: Any, training: Sequence[Ranking], held_out: Sequence[Ranking]) -> dict[str, Any]:
    """Accuracy on held-out pairs, by group of labelers, beside what length alone would reach.

    The baseline prefers longer or shorter responses, whichever the training pairs prefer. Equal scores count half.
    """
    by_prompt = [ranking.rows for ranking in held_out]
    scores = iter(map(float, forward.batched(lambda part: forward.ranking_scores(model, part), 16, by_prompt)))
    scored = [(ranking, [next(scores) for _ in ranking.rows]) for ranking in held_out]
    longer = sum(_right(ranking.words, ranking.pairs) - len(ranking.pairs) / 2 for ranking in training) >= 0
    sign = 1 if longer else -1
    metrics: dict[str, Any] = {
        "training_comparisons": len(training),
        "length_baseline": "longer" if longer else "shorter",
    }
    for group in sorted({ranking.group for ranking in held_out}):
        of_group = [(ranking, values) for ranking, values in scored if ranking.group == group]
        pairs = sum(len(ranking.pairs) for ranking, _ in of_group)
        right = sum(_right(values, ranking.pairs) for ranking, values in of_group)
        by_length = sum(_right([sign * w for w in ranking.words], ranking.pairs) for ranking, _ in of_group)
        metrics[f"pairs/{group}"] = pairs
        metrics[f"accuracy/{group}"] = right / pairs
        metrics[f"length_accuracy/{group}"] = by_length / pairs
    metrics["held_out_loss"] = sum(_loss(values, ranking.pairs) for ranking, values in scored) / len(scored)
    return metrics


def _right(values: Sequence[float], pairs: Sequence[Pair]) -> float:
    """How many pairs these values order as the labeler did; equal values count half."""
    margins = [(values[i] - values[j]) * outcome for i, j, outcome in pairs]
    return sum(1.0 if m > 0 else 0.5 if m == 0 else 0.0 for m in margins)


def _loss(values: Sequence[float], pairs: Sequence[Pair]) -> float:
    margins = [(values[i] - values[j]) * outcome for i, j, outcome in pairs]
    return sum(max(0.0, -m) + math.log1p(math.exp(-abs(m))) for m in margins) / len(margins)


def _split(data: Loaded[Comparison], config: Config) -> tuple[list[Comparison], list[Comparison], dict[str, Any]]:
    if config.validation is not None:
        held_out = comparisons.load(runs.at_home(config.home, config.validation))
        return data.records, held_out.records, {"validation": held_out.summary()}
    training, validation = hygiene.split_by_user(data.records, 0.1)
    return training, validation, {}


def _answers(
    renderer: Renderer, rankings: Sequence[Ranking], context: int, config: Config
) -> tuple[list[list[int]], dict[str, Any]]:
    """The rows whose mean score is the offset."""
    if config.demonstrations is None:
        return [ranking.rows[0] for ranking in rankings[:OFFSET_ROWS]], {}
    loaded = demonstrations.load(runs.at_home(config.home, config.demonstrations))
    conversations = [plain(d.messages) for d in loaded.records[:OFFSET_ROWS]]
    found = [row for row in usable_rows(renderer, conversations, context, Counter()) if row is not None]
    if not found:
        raise UserError(f"no demonstration of {config.demonstrations} fits the context of {context} tokens")
    return found, {"demonstrations": loaded.summary()}


def main(arguments: Sequence[str]) -> int:
    """`python -m training reward`."""
    checkpoint = train(parse(Config, "reward", arguments))
    print(checkpoint.id)
    return 0
