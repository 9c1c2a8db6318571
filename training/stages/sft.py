"""Supervised fine-tuning: imitate the assistant's turns of demonstrations (Ouyang et al. 2022, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import tyro

from training.artifacts import progress
from training.artifacts.checkpoints import Checkpoint, System
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data import lengths, reading, rendering, splits
from training.data.items import Example, Examples
from training.data.ragged import Ragged
from training.data.usage import Usage
from training.models import building, forward, hardware, loading, optimization, probes, publishing, templates
from training.models.dropout import ResidualDropout
from training.rl import batches
from training.rl.best import Best
from training.runtime import ranks, runs
from training.runtime.configuration import parse
from training.stages import adapters, limits, planning, selection, text

HELD_OUT = 0.05  # share of users whose demonstrations are held out where no --validation is given
LENGTH_PERCENTILE = 99  # of the demonstrations' single turns; a response gets half as much again


@dataclass(frozen=True)
class Config(adapters.LoraOptions, planning.MemoryOptions, selection.SelectionOptions):
    """Fine-tune a model on demonstrations."""

    data: tuple[str, ...]
    """Demonstrations: files, folders or hub ids (ID[:configuration][@split]), each with an optional weight: A B=2
    takes every row of A once and of B twice per epoch, B=0.5 a random half of B."""
    model: str = "pretrain"
    """Where to start: checkpoint id, stage (its newest), folder or hub id."""
    validation: tuple[str, ...] = ()
    """Held-out demonstrations; left out, those of one user in twenty are held out (of one prompt in twenty, where
    fewer than twenty users are known)."""
    pretraining_data: tuple[str, ...] = ()
    """Text to mix in: files, folders or hub ids."""
    pretraining_share: float = 0.0
    """Share of the examples of every step that are pretraining text; longer than answers, they are a greater share
    of the learned tokens, which is printed. 0.1 for the model that PPO starts from (Ouyang et al. 2022, appendix C)."""
    epochs: int = 2
    """Passes over the demonstrations. 2 as for the model that PPO starts from (Ouyang et al. 2022, appendix C); the
    paper's SFT models have 16 and are selected by reward, as the preset `paper` does."""
    dropout: float = 0.0
    """Share of what each layer's parts add that is dropped in training. 0.2 (Ouyang et al. 2022, appendix C) with 16
    epochs; none in 2."""
    learning_rate: float = 1e-5
    """Peak learning rate; it falls to a tenth along a cosine. Ours, near the 9.65e-6 of the paper's 1.3B and 6B
    models (Ouyang et al. 2022, appendix C)."""
    batch: int = 32
    """Examples per step, text included. 32 (Ouyang et al. 2022, appendix C)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm. Ours."""
    chat_template: Annotated[str | None, tyro.conf.arg(metavar="default|FILE")] = None
    """Chat template for a base model that has none, or in place of its own: a Jinja file, or `default`, a ready one
    with roles as plain text whose turns end with the end-of-sequence token. Tokens that it needs are added."""
    system: System | None = None
    """`merge` puts a system turn that the chat template refuses before the first user turn's text; `keep` leaves such
    conversations out. The checkpoint keeps the choice, and serving and scoring follow it; `keep` where neither this
    nor the model's manifest says."""
    freeze_embeddings: bool = False
    """Freeze embeddings and output head, so that words absent from the data keep their pretrained meaning."""
    context: int | None = None
    """Greatest number of tokens of a conversation; longer ones are left out, and text is split. Left out, the model's
    own, at most 2,048 (Ouyang et al. 2022, appendix C)."""
    hygiene: bool = False
    """Leave out repeated prompts, those beyond 200 per user, and those with personal information."""
    limit: int | None = None
    """Use this many demonstrations at most, drawn at random."""
    seed: int = 0
    """Seed of the order of the data."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = field(default=Path("runs"), metadata=runs.NO_NUMBERS)
    """Where everything is written."""


class Data(NamedTuple):
    """What is learned and what it is measured on, as views into the cache."""

    training: Examples
    validation: Examples
    documents: Ragged
    usages: list[Usage]


class Step(NamedTuple):
    """Numbers of the demonstrations and of the rows of text of one optimizer step."""

    demonstrations: list[int]
    documents: list[int]


def train(config: Config) -> Checkpoint:
    """Fine-tune and publish a policy."""
    check(config)
    hardware.set_threads()
    hardware.set_dtype(config.dtype)
    source = loading.load(config.model, config.home)
    model, tokenizer = source.model, source.tokenizer
    renderer = _renderer(source, config)
    context = limits.context_of(model, config.context)
    with ranks.main_first():
        data = prepare(config, renderer, context)
    plan = plan_steps(data, config)
    token_share = text_token_share(data, plan)
    if data.documents:
        runs.CONSOLE.print(f"text is {token_share:.1%} of the learned tokens", highlight=False)

    summaries = {name: summary for usage in data.usages for name, summary in usage.summaries().items()}
    hashes = [summary["sha256"] for summary in summaries.values()]
    generation = generation_defaults(data.training.turn_lengths(), context)
    scorer = selection.scorer(config, tokenizer, data.validation, generation["max_tokens"], config.seed)
    keys = [source.key, *([scorer.source.key] if scorer else []), *hashes]
    with runs.Run(config.home, "sft", config, keys) as run:
        if config.freeze_embeddings:
            building.freeze_embeddings(model)
        adapters.add(config, model, "policy")
        best = Best()
        copies = int(config.select_by != "last")
        budget = planning.plan(config, [planning.Trained(model, copies)], longest_of(data), most_of(data, plan))
        dropout = ResidualDropout(model, config.dropout, config.seed) if config.dropout else None
        planning.divide(config, [model])
        optimizer = optimization.adamw([(model, config.learning_rate)])
        run.resume(model=adapters.Trained(model), optimizer=optimizer, budget=budget, best=best)

        for step in run.steps(len(plan), "fine-tuning"):
            optimization.set_rate(optimizer, optimization.cosine(step, len(plan)))
            learn = partial(add_gradients, model, examples_of(data, plan[step]), dropout=dropout, step=step)
            loss = ranks.total(budget.run([model], learn))
            optimization.add_up_gradients([model])
            norm = optimization.clip_gradients([model], config.max_grad_norm)
            rows = (example.ids for example in examples_of(data, plan[step]))
            run.check_finite(step, {"loss": loss, "gradient_norm": norm}, plan[step]._asdict(), rows)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % 5 == 0:
                run.log(step, {"loss": loss, "gradient_norm": norm}, f"loss {loss:.3f}")
            epoch = epoch_after(step, len(plan), config)
            if epoch is not None and config.select_by != "last":
                figures = {"validation_loss": ranks.total(budget.run([], partial(mean_loss, model, data.validation)))}
                if scorer is not None:
                    figures |= selection.mean_reward(scorer, model, renderer, config.seed, budget)
                run.log(step, {f"epoch/{name}": figure for name, figure in figures.items()})
                best.take(model, epoch, selection.value(config, figures), figures)

        if config.select_by != "last":
            best.copy_to(model)
        model, adapter = adapters.merge(model, lambda: loading.load(config.model, config.home).model)
        validation_loss = ranks.total(budget.run([], partial(mean_loss, model, data.validation)))
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
            adapter=adapter,
            generation=generation,
            probe=probes.policy_probe(model, [row.tolist() for row, _ in data.validation[: probes.PROBES]]),
            config=run.config,
            data=summaries,
            seed=config.seed,
            metrics={
                "validation_loss": validation_loss,
                **({} if best.step is None else {"epoch": best.step}),
                **{name: value for name, value in best.figures.items() if name != "validation_loss"},
                "demonstrations": len(data.training),
                "documents": sum(len(step.documents) for step in plan),
                "text_share_of_tokens": token_share,
                "steps": len(plan),
            },
        )


def check(config: Config) -> None:
    """Raise `UserError` for settings that contradict each other, before anything is loaded."""
    limits.check_rates(config)
    adapters.check(config)
    selection.check(config)
    if not 0 <= config.dropout < 1:
        raise UserError(f"--dropout {config.dropout}: use a share from 0 up to, not including, 1")
    if not 0 <= config.pretraining_share < 1:
        raise UserError(f"--pretraining-share {config.pretraining_share}: use a number from 0 up to, not including, 1")
    if config.pretraining_share > 0 and not config.pretraining_data:
        raise UserError("--pretraining-share needs --pretraining-data FILE")
    if min(config.epochs, config.batch) < 1:
        raise UserError("--epochs and --batch must be at least 1")


def _renderer(source: loading.Source, config: Config) -> Renderer:
    """The renderer of the model, which gets the requested chat template."""
    if config.chat_template is not None:
        added = templates.give_template(source.model, source.tokenizer, config.chat_template)
        frozen = {
            "--lora-rank": config.lora_rank,
            "--train-layers": config.train_layers,
            "--freeze-embeddings": config.freeze_embeddings,
        }
        option = next((name for name, value in frozen.items() if value), None)
        if added and option is not None:
            raise UserError(f"{option} leaves {added} added tokens untrained: leave it out")
    renderer = templates.renderer_for(source, config.system)
    renderer.require_end()
    return renderer


def prepare(config: Config, renderer: Renderer, context: int) -> Data:
    """Demonstrations, held-out demonstrations and text as token ids; says what is used of each."""
    selection = reading.select(
        reading.DEMONSTRATIONS, config.data, limit=config.limit, seed=config.seed, hygiene=config.hygiene
    )
    rows = rendering.demonstrations(config.home, selection, renderer, context)
    limits.report(rows.usage)
    if config.validation:
        others = reading.select(reading.DEMONSTRATIONS, config.validation, role="validation")
        split = splits.against(rows, rendering.demonstrations(config.home, others, renderer, context))
        usages = [rows.usage, split.held_out.usage]
        limits.report(split.held_out.usage)
    else:
        split = splits.hold_out(rows, HELD_OUT)
        usages = [rows.usage]
    limits.report_split(split)
    training = splits.weighted(split.training, selection.weights, config.seed)
    needed = 0
    if config.pretraining_share > 0:
        needed = max(1, _text_rows(config.epochs * len(training), config.pretraining_share))
    documents, text_usages = text.load(config.home, config.pretraining_data, renderer, context, needed, config.seed)
    return Data(training.items, split.held_out.items, documents, usages + text_usages)


def plan_steps(data: Data, config: Config) -> list[Step]:
    """The examples of every step. Text stands in each in its share, so that no step is text alone."""
    size = max(1, round(config.batch * (1 - config.pretraining_share)))
    lengths = data.training.ids.lengths.tolist()
    steps: list[Step] = []
    shown = used = 0
    order = batches.endless(len(data.documents), config.seed, "documents")
    for epoch in range(config.epochs):
        for rows in batches.epoch_batches(lengths, size, config.seed, epoch):
            shown += len(rows)
            due = _text_rows(shown, config.pretraining_share) - used
            used += due
            steps.append(Step(rows, [next(order) for _ in range(due)]))
    return steps


def epoch_after(step: int, steps: int, config: Config) -> int | None:
    """The number of the epoch, from 1, that ends with this step; None within one. All have the same number of steps."""
    done, rest = divmod((step + 1) * config.epochs, steps)
    return None if rest else done


def _text_rows(demonstrations: int, share: float) -> int:
    """How many rows of text make up their share beside so many demonstrations."""
    return round(demonstrations * share / (1 - share))


def text_token_share(data: Data, plan: Sequence[Step]) -> float:
    """Share of the learned tokens of a whole run that are text."""
    of_text = sum(int(data.documents.lengths[row]) - 1 for step in plan for row in step.documents)
    per_row = data.training.learned_lengths()
    answers = sum(int(per_row[step.demonstrations].sum()) for step in plan)
    return of_text / (of_text + answers)


def longest_of(data: Data) -> int:
    """Tokens of the longest row of all."""
    parts = (data.training.ids, data.validation.ids, data.documents)
    return max(int(rows.lengths.max()) for rows in parts if len(rows))


def most_of(data: Data, plan: Sequence[Step]) -> int:
    """Tokens of the largest step."""
    answers, text = data.training.ids.lengths, data.documents.lengths
    return max(int(answers[step.demonstrations].sum() + text[step.documents].sum()) for step in plan)


def examples_of(data: Data, step: Step) -> list[Example]:
    """A step's demonstrations and rows of text."""
    documents = [data.documents[i] for i in step.documents]
    return [data.training[i] for i in step.demonstrations] + [
        Example(ids, np.ones(len(ids), np.uint8)) for ids in documents
    ]


def add_gradients(
    model: Any,
    examples: Sequence[Example],
    tokens_per_pass: int,
    *,
    dropout: ResidualDropout | None = None,
    step: int = 0,
) -> float:
    """Add the gradients of the mean loss over the learned tokens of a whole step; returns that mean.

    Not a mean of the micro-batches' means. Of several processes each adds its own part of gradients and mean.
    """
    tokens = sum(map(learned_tokens, examples))
    lengths = [len(example.ids) for example in examples]
    loss = 0.0
    for part, weight in batches.own_passes(range(len(examples)), lengths, tokens_per_pass):
        with dropout.rows(step, part, [lengths[i] for i in part]) if dropout else nullcontext():
            share = weight * loss_of(model, [examples[i] for i in part]) / tokens
            share.backward()
        loss += share.item()
    return loss


def learned_tokens(example: Example) -> int:
    """Tokens with a loss: a row's first has none."""
    return int(example.mask[1:].sum())


def loss_of(model: Any, examples: Sequence[Example]) -> Any:
    """Sum of the cross-entropy over the tokens to be learned."""
    return forward.cross_entropy(model, [e.ids for e in examples], [e.mask for e in examples])


def mean_loss(model: Any, examples: Sequence[Example], tokens_per_pass: int) -> float:
    """Mean cross-entropy per learned token, nats; of several processes each one's part of it."""
    with torch.no_grad():
        parts = batches.own_passes(examples, [len(example.ids) for example in examples], tokens_per_pass)
        shown = progress.track(parts, "held-out demonstrations")
        return sum(weight * float(loss_of(model, part)) for part, weight in shown) / sum(map(learned_tokens, examples))


def generation_defaults(turns: np.ndarray, context: int) -> dict[str, Any]:
    """Sampling defaults. A response gets half as much again as LENGTH_PERCENTILE % of the demonstrations' single
    turns have, at most 1,024 tokens and half the context.

    Args:
        turns: tokens of each assistant turn of the demonstrations, its end included; text is none of them.
    """
    usual = int(np.percentile(turns, LENGTH_PERCENTILE, method="higher"))
    return {"temperature": 1.0, "top_p": 1.0, "max_tokens": min(usual + usual // 2, lengths.RESPONSE, context // 2)}


def main(arguments: Sequence[str]) -> int:
    """`python -m training sft`."""
    checkpoint = train(parse(Config, "sft", arguments))
    print(checkpoint.id)
    return 0
