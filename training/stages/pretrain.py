"""Pretraining on text: a base model from scratch, or an existing model further."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from transformers import AutoTokenizer

from training.artifacts import progress
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError
from training.data import reading, rendering, splits
from training.data.documents import document_marks
from training.data.items import Rows
from training.data.ragged import Packed, Ragged
from training.data.usage import Usage
from training.models import building, forward, hardware, loading, optimization, probes, publishing, sharding, templates
from training.models.parallel import add_gradients
from training.rl import batches
from training.runtime import ranks, runs
from training.runtime.configuration import parse
from training.stages import adapters, limits, planning


@dataclass(frozen=True)
class Config(planning.MemoryOptions):
    """Train a base model on text."""

    data: tuple[str, ...]
    """Text: .txt or .jsonl files, folders or hub ids (ID[:configuration][@split]), each with an optional weight:
    A B=2 takes every document of A once and of B twice per pass, B=0.5 a random half of B. All of it is tokenized
    before the first step, once; --limit bounds that."""
    model: str | None = None
    """Train this model further: checkpoint id, stage (its newest), folder or hub id. Its tokenizer and its sizes count,
    not the options of a new one."""
    tokenizer: str = "{home}/tokenizer/default"
    """Folder of the tokenizer of a new model, or a hub id."""
    validation: tuple[str, ...] = ()
    """Held-out text for the loss; left out, one document in a hundred is held out."""
    layout: Literal["documents", "packed"] = "packed"
    """`documents`: each document is a row, rows of like length together; longer ones are split at the context.
    `packed`: documents follow each other in rows of `context` tokens."""
    hidden_size: int = 256
    """Width of a new model."""
    layers: int = 4
    """Number of transformer layers of a new model."""
    heads: int = 4
    """Number of attention heads of a new model."""
    feed_forward: int = 704
    """Width inside the feed-forward part of a new model."""
    context: int = 512
    """Tokens of a row, and the most that a new model takes."""
    initial_std: float = 0.02
    """Standard deviation of the initial weights."""
    tokens: int = 20_000_000
    """Number of tokens to train on, padding not counted; passes over the data are repeated as needed."""
    batch_tokens: int = 8192
    """Tokens per step."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup: float = 0.02
    """Share of the steps over which the rate rises from 0."""
    decay: float = 0.4
    """Share of the steps, at the end, over which the rate falls to 0 in a line."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    limit: int | None = None
    """Use this many documents at most, drawn at random."""
    seed: int = 0
    """Seed of the initial weights and of the order of the data."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = field(default=Path("runs"), metadata=runs.NO_NUMBERS)
    """Where everything is written."""


class Data(NamedTuple):
    """Rows to train on and held-out ones, as views into the cache."""

    training: Ragged | Packed
    validation: Ragged | Packed
    usages: list[Usage]


def train(config: Config) -> Checkpoint:
    """Train a base model and publish it."""
    check(config)
    hardware.set_threads()
    hardware.set_dtype(config.dtype)
    source = None if config.model is None else load(config)
    tokenizer = load_tokenizer(config.tokenizer) if source is None else source.tokenizer
    with ranks.main_first():
        data = prepare(config, tokenizer)
    lengths = data.training.lengths.tolist()
    plan = plan_steps(lengths, config)

    summaries = {name: summary for usage in data.usages for name, summary in usage.summaries().items()}
    start = rendering.tokenizer_hash(tokenizer) if source is None else source.key
    inputs = [*(summary["sha256"] for summary in summaries.values()), start]
    with runs.Run(config.home, "pretrain", config, inputs) as run:
        model = new_model(config, tokenizer) if source is None else source.model
        budget = planning.plan(config, [planning.Trained(model)], max(lengths), config.batch_tokens)
        planning.divide(config, [model])
        optimizer = optimization.adamw([(model, config.learning_rate)], decay=config.weight_decay)
        run.resume(model=adapters.Trained(model), optimizer=optimizer, budget=budget)
        started, seen = time.monotonic(), 0

        for step in run.steps(len(plan), "pretraining"):
            # 1. The rate: a short rise, a plateau, a line down to 0.
            optimization.set_rate(optimizer, _rate(step, len(plan), config))
            # 2. Mean cross-entropy over the step's tokens.
            batch = [data.training[i] for i in plan[step]]
            loss = ranks.total(budget.run([model], partial(add_step, model, batch)))
            optimization.add_up_gradients([model])
            # 3. One optimizer step.
            norm = optimization.clip_gradients([model], 1.0)
            run.check_finite(step, {"loss": loss, "gradient_norm": norm}, {"training": plan[step]}, batch)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen += sum(map(len, batch))
            if step % 20 == 0:
                speed = seen / (time.monotonic() - started)
                run.log(
                    step,
                    {"loss": loss, "gradient_norm": norm, "tokens_per_second": speed},
                    f"loss {loss:.3f}  {speed:,.0f} tokens/s",
                )

        model = sharding.gather(model)
        loss_held_out = ranks.total(budget.run([], partial(held_out_loss, model, data.validation)))
        run.log(len(plan), {"held_out_loss": loss_held_out})
        return publishing.publish(
            model,
            tokenizer,
            config.home,
            stage="pretrain",
            kind="policy",
            **origin(source, config),
            probe=probes.policy_probe(model, [row.tolist() for row in data.validation[: probes.PROBES]]),
            config=run.config,
            data=summaries,
            seed=config.seed,
            metrics={
                "held_out_loss": loss_held_out,
                "parameters": sum(p.numel() for p in model.parameters()),
                "tokens": sum(lengths[i] for batch in plan for i in batch),
                "steps": len(plan),
            },
        )


def new_model(config: Config, tokenizer: Any) -> Any:
    """A model with random weights."""
    return building.new_llama(
        tokenizer,
        width=config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        feed_forward=config.feed_forward,
        context=config.context,
        std=config.initial_std,
        seed=config.seed,
    )


def load(config: Config) -> loading.Source:
    """The model to train further. Raises `UserError` where it is not there, takes no such rows, or ends no document."""
    assert config.model is not None
    source = loading.load(config.model, config.home)
    limits.context_of(source.model, config.context)
    document_marks(source.tokenizer)
    return source


def origin(source: loading.Source | None, config: Config) -> dict[str, Any]:
    """What a checkpoint says of the model that it was trained from, and its sampling defaults."""
    usual = {"temperature": 1.0, "top_p": 1.0, "max_tokens": min(64, config.context // 2)}
    if source is None:
        return {"generation": usual}
    manifest = source.manifest
    return {
        "parents": source.parents,
        "base_model": source.base_model,
        "system": templates.system_of(source),
        "generation": (manifest.generation if manifest else None) or usual,
    }


def load_tokenizer(name: str) -> Any:
    """A tokenizer by folder or hub id. Raises `UserError` where there is none, or it cannot end a document."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError):
        raise UserError(f"no tokenizer at {name}: run `python -m training tokenizer` first, or name another") from None
    document_marks(tokenizer)
    return tokenizer


def check(config: Config) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is loaded."""
    limits.check_rates(config)
    if min(config.tokens, config.batch_tokens, config.layers, config.heads, config.context - 1) < 1:
        raise UserError("--tokens, --batch-tokens, --layers and --heads must be at least 1, and --context at least 2")
    if config.hidden_size % (2 * config.heads):
        raise UserError(
            f"--hidden-size {config.hidden_size} is not an even multiple of --heads {config.heads}: change one"
        )


def prepare(config: Config, tokenizer: Any) -> Data:
    """Rows of text to train on, no more than the run uses, and held-out ones; says what is used of each."""
    marks = document_marks(tokenizer)
    selection = reading.select(reading.DOCUMENTS, config.data, limit=config.limit, seed=config.seed)
    rows = rendering.documents(config.home, selection, tokenizer, marks)
    usages = [_noted(rows, config)]
    limits.report(usages[0])
    if config.validation:
        others = reading.select(reading.DOCUMENTS, config.validation, role="validation")
        split = splits.against(rows, rendering.documents(config.home, others, tokenizer, marks))
        usages.append(_noted(split.held_out, config))
        limits.report(usages[1])
    else:
        split = splits.hold_out_documents(rows, 100)
    limits.report_split(split)
    training = splits.weighted(split.training, selection.weights, config.seed).items
    return Data(_laid_out(_shuffled(training, config), config), _laid_out(split.held_out.items, config), usages)


def _shuffled(documents: Ragged, config: Config) -> Ragged:
    """Documents in random order, no more than hold the tokens that the run uses."""
    order = list(range(len(documents)))
    runs.rng_for(config.seed, "documents").shuffle(order)
    ends = np.cumsum(documents.lengths[order], dtype=np.int64)
    enough = int(np.searchsorted(ends, config.tokens)) + 1
    return documents.take(order[:enough])


def _laid_out(documents: Ragged, config: Config) -> Ragged | Packed:
    """Documents as rows of at most `context` tokens. Rows do not overlap: each token is predicted once per pass."""
    return documents.cut(config.context) if config.layout == "documents" else Packed(documents, config.context)


def _noted(rows: Rows[Ragged], config: Config) -> Usage:
    """What was used, with a remark where documents are split."""
    return splits.split_documents(rows, config.context).usage if config.layout == "documents" else rows.usage


def next_token_loss(model: Any, rows: Sequence[Any]) -> Any:
    """Sum of the cross-entropy of every token after the first of its row."""
    return forward.cross_entropy(model, rows, [np.ones(len(row), np.uint8) for row in rows])


def mean_loss(model: Any, predicted: int, weight: float, rows: Sequence[Any]) -> Any:
    """What these rows add, with this weight, to the mean cross-entropy per predicted token of their step."""
    return weight * next_token_loss(model, rows) / predicted


def add_step(model: Any, rows: Sequence[Any], tokens_per_pass: int) -> float:
    """Add the gradients of the mean cross-entropy per predicted token of a whole step; returns that mean. Of several
    processes each adds its own part of both."""
    predicted = sum(len(row) - 1 for row in rows)
    parts = batches.own_passes(rows, list(map(len, rows)), tokens_per_pass)
    return sum(add_gradients(model, part, partial(mean_loss, model, predicted, weight)) for part, weight in parts)


def held_out_loss(model: Any, rows: Sequence[Any], tokens_per_pass: int) -> float:
    """Mean cross-entropy per token, nats; of several processes each one's part of it."""
    with torch.no_grad():
        parts = batches.own_passes(rows, list(map(len, rows)), tokens_per_pass)
        shown = progress.track(parts, "held-out text")
        losses = sum(weight * float(next_token_loss(model, part)) for part, weight in shown)
        return losses / sum(len(row) - 1 for row in rows)


def plan_steps(lengths: Sequence[int], config: Config) -> list[list[int]]:
    """Batches until the budget of tokens is used up."""
    plan: list[list[int]] = []
    left, epoch = config.tokens, 0
    while left > 0:
        for batch in batches.token_batches(lengths, config.batch_tokens, config.seed, epoch):
            plan.append(batch)
            left -= sum(lengths[i] for i in batch)
            if left <= 0:
                break
        epoch += 1
    return plan


def _rate(step: int, total: int, config: Config) -> float:
    rise = min(1.0, (step + 1) / max(1.0, config.warmup * total))
    fall = min(1.0, (total - step) / max(1.0, config.decay * total))
    return min(rise, fall)


def main(arguments: Sequence[str]) -> int:
    """`python -m training pretrain`."""
    checkpoint = train(parse(Config, "pretrain", arguments))
    print(checkpoint.id)
    return 0
