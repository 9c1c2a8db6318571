"""Pretraining: a base model from scratch on text."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from transformers import AutoTokenizer

from training.artifacts import progress
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError
from training.artifacts.layouts import pretraining
from training.models import building, forward, hardware, optimization, probes, publishing
from training.models.parallel import add_gradients
from training.rl import batches
from training.rl.losses import token_logprobs
from training.runtime import runs
from training.runtime.configuration import parse

ENCODED_AT_ONCE = 10_000


@dataclass(frozen=True)
class Config:
    """Train a base model on text."""

    data: str
    """Text: a .txt or .jsonl file, a folder or a hub id."""
    tokenizer: str = "{home}/tokenizer/default"
    """Folder of the tokenizer, or a hub id."""
    validation: str | None = None
    """Held-out text for the loss; without it one document in a hundred is held out."""
    layout: Literal["documents", "packed"] = "packed"
    """`documents`: each document is a row, rows of like length together; longer ones are cut at the context.
    `packed`: documents follow each other in rows of `context` tokens."""
    hidden_size: int = 256
    """Width of the model."""
    layers: int = 4
    """Number of transformer layers."""
    heads: int = 4
    """Number of attention heads."""
    feed_forward: int = 704
    """Width inside the feed-forward part."""
    context: int = 512
    """Greatest number of tokens the model takes."""
    initial_std: float = 0.02
    """Standard deviation of the initial weights."""
    tokens: int = 20_000_000
    """Number of tokens to train on, padding not counted; passes over the data are repeated as needed."""
    batch_tokens: int = 8192
    """Tokens a step."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup: float = 0.02
    """Share of the steps over which the rate rises from 0."""
    decay: float = 0.4
    """Share of the steps, at the end, over which the rate falls to 0 in a line."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    limit: int | None = None
    """Use this many documents at most."""
    seed: int = 0
    """Seed of the initial weights and of the order of the data."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


def train(config: Config) -> Checkpoint:
    """Train a base model and publish it."""
    check(config)
    hardware.set_threads()
    tokenizer = load_tokenizer(runs.at_home(config.home, config.tokenizer))
    data = pretraining.load(runs.at_home(config.home, config.data), limit=config.limit)
    held_out = pretraining.load(runs.at_home(config.home, config.validation)) if config.validation else None
    texts, validation_texts = _split(data.records, held_out.records if held_out else None)
    rows = training_rows(tokenizer, texts, config)
    validation = _rows(tokenizer, validation_texts, config)
    lengths = [len(row) for row in rows]
    plan = _plan(lengths, config)

    inputs = [data.sha256, hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()]
    with runs.Run(config.home, "pretrain", config, inputs) as run:
        model = building.new_llama(
            tokenizer,
            width=config.hidden_size,
            layers=config.layers,
            heads=config.heads,
            feed_forward=config.feed_forward,
            context=config.context,
            std=config.initial_std,
            seed=config.seed,
        )
        optimizer = optimization.adamw([(model, config.learning_rate)], decay=config.weight_decay)
        run.resume(model=model, optimizer=optimizer)
        started, seen = time.monotonic(), 0

        for step in run.steps(len(plan), "pretraining"):
            # 1. The rate: a short rise, a plateau, a line down to 0.
            optimization.set_rate(optimizer, _rate(step, len(plan), config))
            # 2. Mean cross-entropy over the step's tokens.
            batch = [rows[i] for i in plan[step]]
            predicted = sum(len(row) - 1 for row in batch)
            loss = add_gradients(model, batch, partial(mean_loss, model, predicted))
            # 3. One optimizer step.
            norm = optimization.clip_gradients([model], 1.0)
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

        loss_held_out = held_out_loss(model, validation, config.batch_tokens)
        run.log(len(plan), {"held_out_loss": loss_held_out})
        return publishing.publish(
            model,
            tokenizer,
            config.home,
            stage="pretrain",
            kind="policy",
            generation={"temperature": 1.0, "top_p": 1.0, "max_tokens": min(64, config.context // 2)},
            probe=probes.policy_probe(model, validation[: probes.PROBES]),
            config=run.config,
            data={"text": data.summary()} | ({"validation": held_out.summary()} if held_out else {}),
            seed=config.seed,
            metrics={
                "held_out_loss": loss_held_out,
                "parameters": sum(p.numel() for p in model.parameters()),
                "tokens": sum(lengths[i] for batch in plan for i in batch),
                "steps": len(plan),
            },
        )


def load_tokenizer(name: str) -> Any:
    """A tokenizer by folder or hub id. Raises `UserError` where there is none, or one that ends no document."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError):
        raise UserError(f"no tokenizer at {name}: run `python -m training tokenizer` first, or name another") from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer at {name} has no end token: add an eos_token to it, or name another")
    return tokenizer


def check(config: Config) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is loaded."""
    if min(config.tokens, config.batch_tokens, config.layers, config.heads, config.context) < 1:
        raise UserError("--tokens, --batch-tokens, --layers, --heads and --context must be at least 1")
    if config.hidden_size % (2 * config.heads):
        raise UserError(f"--hidden-size {config.hidden_size} is no even multiple of --heads {config.heads}: change one")


def document_rows(tokenizer: Any, texts: Sequence[str], context: int) -> list[list[int]]:
    """Each document as one row between its begin and end tokens; a longer one is cut into rows of `context`."""
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    rows = []
    for ids in tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]:
        row = [*begin, *ids, tokenizer.eos_token_id]
        rows += [row[start : start + context] for start in range(0, len(row), context)]
    return [row for row in rows if len(row) > 1]


def next_token_loss(model: Any, rows: Sequence[Sequence[int]]) -> Any:
    """Sum of the cross-entropy of every token after the first of its row."""
    labels = forward.pad_right([row[1:] for row in rows], 0)
    mask = forward.response_mask([row[1:] for row in rows])
    return -(token_logprobs(forward.logits_of(model, rows), labels) * mask).sum()


def mean_loss(model: Any, predicted: int, rows: Sequence[Sequence[int]]) -> Any:
    """What these rows add to the mean cross-entropy per predicted token of their step."""
    return next_token_loss(model, rows) / predicted


def held_out_loss(model: Any, rows: Sequence[Sequence[int]], batch_tokens: int) -> float:
    """Mean cross-entropy a token, nats."""
    total = 0.0
    for batch in batches.token_batches([len(row) for row in rows], batch_tokens, "held out"):
        total += float(
            forward.batched(lambda b: next_token_loss(model, b)[None], len(batch), [rows[i] for i in batch])[0]
        )
    return total / sum(len(row) - 1 for row in rows)


def training_rows(tokenizer: Any, texts: Sequence[str], config: Config) -> list[list[int]]:
    """Rows of documents in random order, until there are as many tokens as the run uses."""
    order = list(range(len(texts)))
    runs.rng_for(config.seed, "documents").shuffle(order)
    rows: list[list[int]] = []
    tokens = 0
    with progress.bar(f"tokenizing {len(texts):,} documents"):
        for part in batches.chunks(order, ENCODED_AT_ONCE):
            found = _rows(tokenizer, [texts[i] for i in part], config)
            rows += found
            tokens += sum(map(len, found))
            if tokens >= config.tokens:
                break
    return rows


def _rows(tokenizer: Any, texts: Sequence[str], config: Config) -> list[list[int]]:
    rows = document_rows(tokenizer, texts, config.context if config.layout == "documents" else 10**9)
    if config.layout == "documents":
        return rows
    # The end token stands between documents; rows do not overlap, so each token is predicted once an epoch.
    stream = [token for row in rows for token in row]
    return [stream[a : a + config.context] for a in range(0, len(stream) - 1, config.context)]


def _split(texts: list[str], held_out: list[str] | None) -> tuple[list[str], list[str]]:
    if held_out is not None:
        return texts, held_out
    if len(texts) < 2:
        raise UserError("one document cannot be split: give --validation FILE")
    return [t for i, t in enumerate(texts) if i % 100 != 1], [t for i, t in enumerate(texts) if i % 100 == 1]


def _plan(lengths: Sequence[int], config: Config) -> list[list[int]]:
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
