"""Supervised fine-tuning: imitate the assistant's turns of demonstrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from training.artifacts.checkpoints import Checkpoint, System
from training.artifacts.conversations import Refusal, sentence
from training.artifacts.errors import UserError
from training.artifacts.layouts import demonstrations, pretraining
from training.artifacts.rendering import Renderer
from training.data import hygiene
from training.models import building, forward, hardware, loading, optimization, probes, publishing, templates
from training.rl import batches
from training.rl.losses import token_logprobs
from training.runtime import runs
from training.runtime.configuration import parse
from training.stages.pretrain import document_rows


@dataclass(frozen=True)
class Config:
    """Fine-tune a model on demonstrations."""

    data: str
    """Demonstrations: a file, a folder or a hub id."""
    model: str = "pretrain"
    """Where to start: checkpoint id, stage (its newest), folder or hub id."""
    validation: str | None = None
    """Held-out demonstrations; without it one user in twenty is held out."""
    pretraining_data: str | None = None
    """Text to mix in."""
    pretraining_share: float = 0.0
    """Share of the examples that are pretraining text; 0.1 for the model that PPO starts from."""
    epochs: int = 2
    """Passes over the demonstrations."""
    learning_rate: float = 1e-5
    """Peak learning rate; it falls to a tenth along a cosine."""
    batch: int = 32
    """Examples a step."""
    micro_batch: int | None = None
    """Examples a forward pass; smaller needs less memory and changes nothing else."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    chat_template: Annotated[str | None, tyro.conf.arg(metavar="default|FILE")] = None
    """Chat template for a base model that has none, or in place of its own: a Jinja file, or `default`, a ready one
    with roles as plain text whose turns end with the end-of-sequence token. Tokens that it needs are added."""
    system: System | None = None
    """`merge` puts a system turn that the chat template refuses before the first user turn's text; `keep` leaves such
    conversations out. The checkpoint keeps the choice, and serving and scoring follow it; `keep` where neither this
    nor the model's manifest says."""
    freeze_embeddings: bool = False
    """Leave embeddings and output head as they are, so that words which the data lacks stay as able as others."""
    limit: int | None = None
    """Use this many demonstrations at most."""
    seed: int = 0
    """Seed of the order of the data."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


class Example(NamedTuple):
    """Token ids, and 1 where a token is to be learned."""

    ids: list[int]
    mask: list[int]


def train(config: Config) -> Checkpoint:
    """Fine-tune and publish a policy."""
    if not 0 <= config.pretraining_share < 1:
        raise UserError(f"--pretraining-share {config.pretraining_share}: use a number from 0 up to, not including, 1")
    if config.pretraining_share > 0 and config.pretraining_data is None:
        raise UserError("--pretraining-share needs --pretraining-data FILE")
    hardware.set_threads()
    data = demonstrations.load(runs.at_home(config.home, config.data), limit=config.limit)
    training, validation, held_out = _split(data, config)
    source = loading.load(config.model, config.home)
    model, tokenizer, context = source.model, source.tokenizer, forward.context_of(source.model)
    renderer = _renderer(source, config)
    skipped: Counter[str] = Counter()
    examples = examples_of(renderer, [d.messages for d in training], context, skipped)
    validation_examples = examples_of(renderer, [d.messages for d in validation], context, skipped)
    if not examples or not validation_examples:
        raise UserError(f"no demonstration fits the model's context of {context} tokens: use a longer one")
    summaries = {"demonstrations": data.summary() | {"unusable": dict(skipped)}} | held_out
    documents, more = _documents(tokenizer, config, context, len(examples))
    examples, summaries = examples + documents, summaries | more
    lengths = [len(example.ids) for example in examples]
    plan = [
        b for epoch in range(config.epochs) for b in batches.epoch_batches(lengths, config.batch, config.seed, epoch)
    ]

    hashes = [summary["sha256"] for summary in summaries.values()]
    with runs.Run(config.home, "sft", config, [source.key, *hashes]) as run:
        if config.freeze_embeddings:
            building.freeze_embeddings(model)
        optimizer = optimization.adamw([(model, config.learning_rate)])
        run.resume(model=model, optimizer=optimizer)

        for step in run.steps(len(plan), "fine-tuning"):
            optimization.set_rate(optimizer, optimization.cosine(step, len(plan)))
            # Mean over the learned tokens of the whole batch, not a mean of the micro-batches' means.
            batch = [examples[i] for i in plan[step]]
            tokens = sum(sum(example.mask[1:]) for example in batch)
            loss = 0.0
            for rows in batches.chunks(plan[step], config.micro_batch):
                part = loss_of(model, [examples[i] for i in rows]) / tokens
                part.backward()
                loss += part.item()
            norm = optimization.clip_gradients([model], config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % 5 == 0:
                run.log(step, {"loss": loss, "gradient_norm": norm}, f"loss {loss:.3f}")

        validation_loss = mean_loss(model, validation_examples, config.micro_batch or config.batch)
        run.log(len(plan), {"validation_loss": validation_loss})
        return publishing.publish(
            model,
            tokenizer,
            config.home,
            stage="sft",
            kind="policy",
            system=config.system or templates.system_of(source),
            parents=source.parents,
            base_model=source.base_model,
            generation=generation_defaults(examples, context),
            probe=probes.policy_probe(model, [e.ids for e in validation_examples[: probes.PROBES]]),
            config=run.config,
            data=summaries,
            seed=config.seed,
            metrics={"validation_loss": validation_loss, "examples": len(examples), "steps": len(plan)},
        )


def _renderer(source: loading.Source, config: Config) -> Renderer:
    """The renderer of the model, which gets the chat template that was asked for."""
    if config.chat_template is not None:
        added = templates.give_template(source.model, source.tokenizer, config.chat_template)
        if added and config.freeze_embeddings:
            raise UserError(f"--freeze-embeddings leaves {added} added tokens untrained: leave it out")
    renderer = templates.renderer_for(source, config.system)
    renderer.require_end()
    return renderer


def examples_of(
    renderer: Renderer, conversations: Sequence[Sequence[Mapping[str, Any]]], context: int, skipped: Counter[str]
) -> list[Example]:
    """Rendered conversations; those that cannot be used are counted in `skipped` with their reason."""
    examples = []
    for row in renderer.render(conversations, learn=True, longest=context):
        if isinstance(row, Refusal):
            skipped[sentence(row)] += 1
        else:
            examples.append(Example(row.ids, row.mask))
    return examples


def loss_of(model: Any, examples: Sequence[Example]) -> Any:
    """Sum of the cross-entropy over the tokens to be learned."""
    ids = forward.pad_right([e.ids[1:] for e in examples], 0)
    mask = forward.pad_right([e.mask[1:] for e in examples], 0)
    return -(token_logprobs(forward.logits_of(model, [e.ids for e in examples]), ids) * mask).sum()


def mean_loss(model: Any, examples: Sequence[Example], size: int) -> float:
    """Mean cross-entropy a learned token, nats."""
    losses = forward.batched(lambda rows: loss_of(model, rows)[None], size, examples)
    return sum(map(float, losses)) / sum(sum(e.mask[1:]) for e in examples)


def generation_defaults(examples: Sequence[Example], context: int) -> dict[str, Any]:
    """Sampling defaults: room for half as much again as the longest answer seen, at most half the context."""
    longest = max(sum(example.mask) for example in examples)
    return {"temperature": 1.0, "top_p": 1.0, "max_tokens": min(longest + longest // 2, context // 2)}


def _split(data: Any, config: Config) -> tuple[list[Any], list[Any], dict[str, Any]]:
    if config.validation is None:
        training, validation = hygiene.split_by_user(data.records, 0.05)
        if not training or not validation:
            raise UserError(f"{config.data} has too few users to hold one out: give --validation FILE")
        return training, validation, {}
    held_out = demonstrations.load(runs.at_home(config.home, config.validation))
    return data.records, held_out.records, {"validation": held_out.summary()}


def _documents(tokenizer: Any, config: Config, context: int, count: int) -> tuple[list[Example], dict[str, Any]]:
    """Rows from the first of the text that make up their share beside `count` demonstrations."""
    if config.pretraining_share <= 0 or config.pretraining_data is None:
        return [], {}
    wanted = max(1, round(count * config.pretraining_share / (1 - config.pretraining_share)))
    text = pretraining.load(runs.at_home(config.home, config.pretraining_data), limit=10 * wanted)
    chosen = runs.rng_for(config.seed, "documents").sample(text.records, min(wanted, len(text.records)))
    rows = document_rows(tokenizer, chosen, context)[:wanted]
    return [Example(row, [1] * len(row)) for row in rows], {"pretraining": text.summary()}


def main(arguments: Sequence[str]) -> int:
    """`python -m training sft`."""
    checkpoint = train(parse(Config, "sft", arguments))
    print(checkpoint.id)
    return 0
