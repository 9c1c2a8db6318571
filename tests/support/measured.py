"""Sides of a comparison from lists of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals.measured import Measured
from evals.results import Item

DECLARED = {"better": "higher", "share": True, "margin": 0.05, "required": True, "wins": False}


def items(
    scores: Sequence[float | None],
    metric: str = "tax.cloze.accuracy",
    cluster: Callable[[int], str] | None = None,
    weight: Callable[[int], float] = lambda _: 1.0,
) -> list[Item]:
    """One item per score; None is one whose request timed out."""
    suite, task, score = metric.split(".")
    return [
        Item(
            suite, task, str(i), f"prompt {i}", f"hash {i}", None, None, {score: value}, weight(i),
            cluster(i) if cluster else None, missing="timed out" if value is None else None,
        )
        for i, value in enumerate(scores)
    ]  # fmt: skip


def side(
    records: Sequence[Item],
    name: str = "candidate",
    comparable: Mapping[str, Mapping[str, Any]] | None = None,
    tokenizer: str | None = None,
    rule_for_all: bool = False,
    unusable: Mapping[str, str] | None = None,
    **fields: Any,
) -> Measured:
    """A side that declares all of its metrics alike: required, with a margin of 0.05 unless `fields` say otherwise."""
    metrics = {f"{item.suite}.{item.task}.{score}" for item in records for score in item.scores}
    declared = {metric: {"words": metric, **DECLARED, **fields} for metric in metrics}
    return Measured(name, name, records, declared, comparable or {}, tokenizer, unusable or {}, rule_for_all)
