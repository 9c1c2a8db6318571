"""The alignment tax: general skills and loss on held-out text, through lm-eval on local files."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.client import Client
from evals.results import Item, prompt_hash
from evals.tasks.files import FOLDER, kind_of

SUITE = "tax"


async def measure(
    client: Client,
    checkpoint: str,
    files: Mapping[str, Path],
    limits: Mapping[str, int] | None = None,
) -> list[Item]:
    """Items of every task.

    The same raw text goes to every system: the tax is what alignment cost the language model itself.

    Args:
        files: name of the task -> data file. A name with a task file of its own uses it (`hellaswag`, `winogrande`,
            `cloze`, `heldout`); any other is a multiple-choice file with `query`, `choices`, `gold`. `cloze:grammar`
            is task `grammar` of kind `cloze`.
        limits: name of the task -> number of its first rows to use.
    """
    loop = asyncio.get_running_loop()
    samples, model = await asyncio.to_thread(_evaluate, client, checkpoint, files, limits or {}, loop)
    items: list[Item] = []
    for task, rows in samples.items():
        for row in rows:
            items += _items(task, row, model)
    return items


def _evaluate(
    client: Client,
    checkpoint: str,
    files: Mapping[str, Path],
    limits: Mapping[str, int],
    loop: asyncio.AbstractEventLoop,
) -> tuple[dict[str, list[dict[str, Any]]], Any]:
    """Run lm-eval's own loop in this thread; returns its samples by task, and the adapter."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    import datasets
    import lm_eval.api.task
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    from evals.lm import ServedModel

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    # lm-eval's own bars cannot be turned off by an option, and would cut through ours.
    lm_eval.api.task.tqdm = lambda things, **_: things
    tasks = {}
    for name, path in files.items():
        kind = kind_of(name.split(":")[0])
        metadata: dict[str, Any] = {"path": str(path), "limit": limits.get(name)}
        manager = TaskManager(include_path=str(FOLDER), include_defaults=False, metadata=metadata)
        task = manager.load([kind])["tasks"][kind]
        task.set_config("task", name)
        task.set_fewshot_seed(0)
        tasks[name] = task
    model = ServedModel(client, checkpoint, loop)
    output = evaluate(model, {"tasks": tasks, "groups": {}, "group_map": {}}, bootstrap_iters=0, log_samples=True)
    return output["samples"], model


def _items(task: str, row: Mapping[str, Any], model: Any) -> list[Item]:
    """The item of one lm-eval sample; held-out text gives two, as tokens and bytes weigh it differently."""
    document = (task, int(row["doc_id"]))
    failure: str | None = model.failures.get(document)
    lengths: Sequence[int] = model.lengths.get(document, [])
    prompt = _prompt(row)
    name = task.rsplit(":", 1)[-1].replace(".", "-")
    tags = {k: str(v) for k, v in row["doc"].items() if k in {"skill", "kind"}}

    def item(scores: Mapping[str, float | None], weight: float = 1.0, suffix: str = "") -> Item:
        measured = dict.fromkeys(scores) if failure else dict(scores)
        return Item(
            suite=SUITE,
            task=name + suffix,
            id=str(row["doc"]["id"]),
            prompt=prompt,
            prompt_hash=prompt_hash(prompt),
            response=None,
            finish_reason=None,
            scores=measured,
            weight=weight,
            tags=tags,
            missing=failure,
        )

    kind = kind_of(task.split(":")[0])
    if kind == "heldout":
        total = -float(row["filtered_resps"][0])
        tokens, size = float(sum(lengths) or 1), float(len(prompt.encode()))
        return [
            item({"loss": total / tokens}, weight=tokens),
            item({"bits_per_byte": total / size / math.log(2)}, weight=size, suffix="_bytes"),
        ]
    if kind == "cloze":
        return [item({"accuracy": float(row["acc"])})]
    scores: dict[str, float | None] = {"accuracy": float(row["acc"])}
    if "acc_norm" in row:
        scores["accuracy_by_characters"] = float(row["acc_norm"])
        scores["accuracy_by_tokens"] = None if failure else _by_tokens(row, lengths)
    return [item(scores)]


def _prompt(row: Mapping[str, Any]) -> str:
    """What was asked: for a choice, the first context with its continuation stands for all."""
    arguments = row["arguments"][0]
    return "".join(str(part) for part in arguments)


def _by_tokens(row: Mapping[str, Any], lengths: Sequence[int]) -> float:
    """InstructGPT's rule: the choice with the greatest mean log-probability per token."""
    means = [float(r[0]) / n for r, n in zip(row["filtered_resps"], lengths, strict=True)]
    gold = int(row["target"])
    return float(max(range(len(means)), key=means.__getitem__) == gold)
