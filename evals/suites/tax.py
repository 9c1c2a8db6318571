"""The alignment tax: what alignment cost the language model itself, by lm-eval's tasks and the loss on text."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.client import Client
from evals.options import Config, Form
from evals.results import Item, prompt_hash
from evals.suite import Measurement, Metric, Suite
from evals.tasks import metrics
from evals.tasks.build import FEW_SHOT_SEED, Built, quiet
from evals.tasks.loop import Document, run
from evals.tasks.plan import build_all, specs
from evals.transport import Refused
from training.artifacts.errors import UserError

if TYPE_CHECKING:
    from evals.bench import Bench
    from evals.sources import Sources

SUITE_NAME = "tax"


@dataclass(frozen=True)
class Choices:
    """What a user chooses of this suite.

    Attributes:
        shots: numbers of few-shot examples; each task is measured with each.
        forms: raw text, through the chat template, or both.
        limit: number of first rows of each task.
        limits: the same for single files, by name.
        seed: of the run, for tasks that sample.
    """

    shots: tuple[int, ...] = (0,)
    forms: tuple[Form, ...] = ("raw",)
    limit: int | None = None
    limits: Mapping[str, int] | None = None
    seed: int = 0


async def measure_tasks(
    client: Client,
    checkpoint: str,
    folder: Path | None,
    files: Mapping[str, str],
    tasks: Sequence[str],
    choices: Choices,
    home: Path,
) -> Measurement:
    """Items, metrics and figures of every task.

    The same text goes to every system: the tax is what alignment cost the language model itself.

    Args:
        folder: of the checkpoint, None where it is not on this machine.
        files, tasks: see `plan.specs`.
        home: for lm-eval's list of tasks.

    Raises:
        UserError: unknown tasks, data that does not fit, an engine without log-probabilities.
    """
    loop = asyncio.get_running_loop()
    try:
        context = (await client.contexts()).get(checkpoint)
    except Refused as refused:
        raise UserError(f"the service does not say what it serves ({refused.reason}): try again") from None
    if context is None:
        raise UserError(
            f"the service does not say the context (max_model_len) of {checkpoint}: serve it by vLLM, or leave the "
            "suite tax out"
        )

    def work() -> Measurement:
        return _measured(client, checkpoint, folder, files, tasks, choices, home, context, loop)

    return await asyncio.to_thread(work)


def _measured(
    client: Client, checkpoint: str, folder: Path | None, files: Mapping[str, str], tasks: Sequence[str],
    choices: Choices, home: Path, context: int, loop: asyncio.AbstractEventLoop,
) -> Measurement:  # fmt: skip
    planned = specs(files, tasks, home)
    quiet()
    built = build_all(planned, choices.shots, home)

    from evals.lm import ServedModel
    from evals.tokens import tokens_of

    model = ServedModel(client, checkpoint, loop, tokens_of(client, checkpoint, folder, loop), context, choices.seed)
    items: list[Item] = []
    declared: list[Metric] = []
    figures: dict[str, Any] = {}
    for form in dict.fromkeys(choices.forms):
        for task in built:
            if form == "chat" and task.kind in ("heldout", "cloze"):
                continue  # text to be continued, not a question
            name = task.name if form == "raw" else f"{task.name}-chat"
            limit = (choices.limits or {}).get(task.name, choices.limit)
            measured = _measure_task(task, name, model, form, limit)
            items += measured.items
            declared += measured.metrics
            figures |= measured.figures
    data = {task.name: dict(task.summary) for task in built}
    return Measurement(items, declared, figures, data)


def _measure_task(built: Built, name: str, model: Any, form: Form, limit: int | None) -> Measurement:
    """One task in one form. Its requests carry the name, by which the model keeps what failed."""
    task = built.task
    task.set_config("task", name)
    task.set_fewshot_seed(FEW_SHOT_SEED)
    documents = run(task, model, chat=form == "chat", limit=limit)
    items: list[Item] = []
    for document in documents:
        items += _items(built, name, document, model)
    measured = [document for document in documents if (name, document.number) not in model.failures]
    estimates = metrics.corpus_figures(task, measured, len(documents) - len(measured)) if measured else {}
    if built.kind == "heldout":
        estimates = {}  # the weighted mean over documents is the figure
    written = dict.fromkeys((item.task, score) for item in items for score in item.scores)
    declared = metrics.declarations(list(written), task)
    return Measurement(items, declared, {f"{name}.{score}": value for score, value in estimates.items()})


def _items(built: Built, name: str, document: Document, model: Any) -> list[Item]:
    """The item of one document; text gives two, as tokens and bytes weigh it differently."""
    key = (name, document.number)
    failure: str | None = model.failures.get(key)
    lengths = [count for _, count in sorted(model.lengths.get(key, {}).items())]
    generated = next((text for text in document.responses if isinstance(text, str)), None)
    tags = {k: str(v) for k, v in document.doc.items() if k in {"skill", "kind"}} if built.kind == "cloze" else {}
    sent = prompt_hash([document.arguments, document.target, _gold(built.task, document)])

    def item(scores: Mapping[str, float | None], weight: float = 1.0, suffix: str = "") -> Item:
        return Item(
            suite=SUITE_NAME,
            task=name + suffix,
            id=str(built.ids[document.number]) if built.ids else str(document.number),
            prompt=_prompt(document),
            prompt_hash=sent,
            response=None if failure else generated,
            finish_reason=None,
            scores=dict.fromkeys(scores) if failure else dict(scores),
            weight=weight,
            tags=tags,
            missing=failure,
        )

    if built.kind == "heldout":
        text = document.arguments[0][0]
        total, size = -float(document.responses[0]), float(len(text.encode()))
        tokens = float(sum(lengths) or 1)
        return [
            item({"bits_per_byte": total / size / math.log(2)}, weight=size),
            item({"loss": total / tokens}, weight=tokens, suffix="_tokens"),
        ]
    scores = _empty(built.task, document) if failure else metrics.item_scores(built.task, document)
    if built.kind == "cloze":
        scores.pop("perplexity", None)
    is_choice = built.task.OUTPUT_TYPE == "multiple_choice" and "accuracy" in scores
    if is_choice and not built.task.multiple_input:
        right = _right(built.task, document)
        scores["accuracy_by_tokens"] = None if failure or not right else _by_tokens(document, lengths, right)
    return [item(scores)]


def _empty(task: Any, document: Document) -> dict[str, float | None]:
    return {metrics.renamed(score): None for score in document.values}


def _gold(task: Any, document: Document) -> Any:
    """What the answer is scored against beside the target: of a task with several contexts, the right one."""
    return task.doc_to_text(document.doc) if getattr(task, "multiple_input", 0) else None


def _prompt(document: Document) -> Any:
    """What was sent, for people: a text to be continued, or a context with its continuations."""
    if len(document.arguments) == 1:
        arguments = document.arguments[0]
        return "".join(part for part in arguments if isinstance(part, str))
    contexts = dict.fromkeys(str(arguments[0]) for arguments in document.arguments)
    parts = [part for arguments in document.arguments for part in arguments[1:] if isinstance(part, str)]
    return "\n".join([*contexts, *(f"-{part}" for part in dict.fromkeys(parts))])


def _right(task: Any, document: Document) -> set[int]:
    """Indices of the right choices; a target may be an index, a choice, or several of them."""
    targets = document.target if isinstance(document.target, list) else [document.target]
    choices = task.doc_to_choice(document.doc)
    known = [target for target in targets if not isinstance(target, str) or target in choices]
    return {choices.index(target) if isinstance(target, str) else int(target) for target in known}


def _by_tokens(document: Document, lengths: Sequence[int], right: set[int]) -> float:
    """InstructGPT's rule: the choice with the greatest mean log-probability per token."""
    means = [float(response[0]) / n for response, n in zip(document.responses, lengths, strict=False)]
    return float(max(range(len(means)), key=means.__getitem__) in right)


def _needs(sources: Sources) -> str | None:
    if sources.tax_files or sources.tasks:
        return None
    return "give --data such as hellaswag=FILE, or --task NAME"


def _check(sources: Sources, options: Config) -> Mapping[str, object]:
    quiet()
    built = build_all(specs(sources.tax_files, sources.tasks, options.home), options.shots, options.home)
    return {task.name: task.summary for task in built}


async def _measure(bench: Bench) -> Measurement:
    return await measure_files(bench, sources_files=bench.sources.tax_files, tasks=bench.sources.tasks)


async def measure_files(
    bench: Bench, sources_files: Mapping[str, str], tasks: Sequence[str] = (), limits: Mapping[str, int] | None = None
) -> Measurement:
    """Tasks of these names and files, as the options of the run say."""
    options = bench.options
    choices = Choices(options.shots, options.forms, options.limit, limits, options.seed)
    folder = options.home / "checkpoints" / bench.subject.checkpoint
    local = folder if bench.subject.manifest is not None else None
    return await measure_tasks(
        bench.client, bench.subject.checkpoint, local, sources_files, tasks, choices, options.home
    )


SUITE = Suite(SUITE_NAME, "Alignment tax", metrics.DECLARED, _needs, _measure, _check)
