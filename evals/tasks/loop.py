"""lm-eval's evaluation loop: requests of a task, answers of the model, the task's scores of each document.

lm-eval's own `evaluate` would aggregate failed requests along with the others; here they keep their reason.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.tasks.fit import MISFITS
from evals.tasks.squad import local_metric
from training.artifacts.errors import UserError

Value = Any  # of one document: a number, or what the task's aggregation takes


@dataclass(frozen=True)
class Document:
    """One document of a task with the model's answers.

    Attributes:
        number: its position in the task.
        doc: its columns, as the task prepared them.
        arguments: of every request: context and continuation, a text, or context and generation settings.
        responses: what came back for each request.
        target: what it is scored against.
        values: score -> value, before aggregation.
    """

    number: int
    doc: Mapping[str, Any]
    arguments: Sequence[Any]
    responses: Sequence[Any]
    target: Any
    values: Mapping[str, Value]


def run(task: Any, model: Any, *, chat: bool = False, limit: int | None = None) -> list[Document]:
    """Measure one task.

    Args:
        chat: through the model's chat template, each few-shot example as a turn of its own, as lm-eval's
            `--apply_chat_template` does.
        limit: number of first documents.
    """
    try:
        task.build_all_requests(
            limit=limit,
            rank=0,
            world_size=1,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            chat_template=model.apply_chat_template if chat else None,
            tokenizer_name=model.tokenizer_name if chat else "",
        )
    except MISFITS as error:
        raise UserError(
            f"lm-eval cannot ask the task {task.config.task} of these rows ({type(error).__name__}: {error}): mend them"
        ) from error
    by_type = defaultdict(list)
    for instance in task.instances:
        by_type[instance.request_type].append(instance)
    for kind, instances in by_type.items():
        repeated = [instance for instance in instances for _ in range(instance.repeats or 1)]
        for instance, response in zip(repeated, getattr(model, kind)(repeated), strict=True):
            instance.resps.append(response)
    task.apply_filters()
    return _scored(task, limit)


def _scored(task: Any, limit: int | None) -> list[Document]:
    by_document = defaultdict(list)
    for instance in task.instances:
        by_document[instance.doc_id].append(instance)
    filters = list(task.instances[0].filtered_resps)
    documents = []
    for number, doc in task.doc_iterator(rank=0, limit=limit, world_size=1):
        instances = sorted(by_document[number], key=lambda instance: instance.idx)
        values: dict[str, Value] = {}
        for name in filters:
            scores = task.process_results(doc, [instance.filtered_resps[name] for instance in instances])
            values |= {score_name(metric, name, filters): value for metric, value in scores.items()}
        documents.append(
            Document(
                number,
                doc,
                [instance.args for instance in instances],
                [instance.resps[0] for instance in instances],
                task.doc_to_target(doc),
                values,
            )
        )
    return documents


def score_name(metric: str, filter_name: str, filters: Sequence[str]) -> str:
    """A score as results hold it: the filter of the answer is named where there are several."""
    name = metric if len(filters) == 1 else f"{metric}_{filter_name}"
    return name.replace("@", "_at_").replace(".", "_")


def aggregations(task: Any) -> dict[str, tuple[Callable[[Sequence[Value]], float], bool]]:
    """Score -> how lm-eval makes one figure of all documents, and whether that is their mean."""
    from lm_eval.api.metrics import mean

    filters = list(task.instances[0].filtered_resps)
    return {
        score_name(metric, name, filters): (function, function in (mean, np.mean))
        for name in filters
        for metric, function in task.aggregation().items()
    }


def directions(task: Any) -> dict[str, bool]:
    """Score -> whether higher is better, as the task says."""
    filters = list(task.instances[0].filtered_resps)
    return {
        score_name(metric, name, filters): bool(higher)
        for name in filters
        for metric, higher in task.higher_is_better().items()
    }


def figure(aggregate: Callable[[Sequence[Value]], float], values: Sequence[Value], score: str) -> float | None:
    """The aggregation's figure; None where it has none, such as for questions without an answer.

    Raises:
        UserError: the aggregation needs something that cannot be loaded here.
    """
    try:
        with local_metric():
            value = float(aggregate(list(values)))
    except (OSError, ImportError, RuntimeError) as error:
        raise UserError(f"the score {score} cannot be computed ({type(error).__name__}: {error})") from None
    return value if math.isfinite(value) else None
