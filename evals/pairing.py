"""The items of two sides brought together: equal questions, and whatever is missing on either side counted."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from evals.results import Item
from training.artifacts.errors import UserError

Tasks = Mapping[tuple[str, str], Mapping[str, Item]]  # (suite, task) -> id -> item


@dataclass(frozen=True)
class Pairing:
    """The values of a metric on both sides, over every item that either side has; all lists have shape (items,).

    Attributes:
        candidate, baseline: None where an item was not measured, or is not there.
        weights: None if all are 1.
        clusters: None if every item is independent of the others.
        missing_candidate, missing_baseline: reason -> number of items that a side has but could not measure.
        only_candidate, only_baseline: number of items that the other side does not have.
    """

    candidate: Sequence[float | None]
    baseline: Sequence[float | None]
    weights: Sequence[float] | None = None
    clusters: Sequence[Hashable] | None = None
    missing_candidate: Mapping[str, int] = field(default_factory=dict)
    missing_baseline: Mapping[str, int] = field(default_factory=dict)
    only_candidate: int = 0
    only_baseline: int = 0

    @property
    def complete(self) -> list[int]:
        """Places of the items that both sides measured."""
        pairs = enumerate(zip(self.candidate, self.baseline, strict=True))
        return [i for i, (a, b) in pairs if a is not None and b is not None]

    @property
    def incomplete(self) -> int:
        """Number of items that a side lacks or failed to measure."""
        return len(self.candidate) - len(self.complete)


def tasks_of(items: Sequence[Item], name: str) -> Tasks:
    """Items by task and id.

    Raises:
        UserError: a task of the side called `name` holds an id twice.
    """
    tasks: dict[tuple[str, str], dict[str, Item]] = defaultdict(dict)
    repeated: Counter[tuple[str, str]] = Counter()
    for item in items:
        of_task = tasks[item.suite, item.task]
        repeated[item.suite, item.task] += item.id in of_task
        of_task[item.id] = item
    for (suite, task), count in repeated.items():
        if count:
            raise UserError(
                f"{name}: {count} items of {suite}.{task} repeat the id of another: give every item an id of its own "
                "and measure again"
            )
    return tasks


def pair_metric(candidate: Tasks, baseline: Tasks, metric: str) -> Pairing:
    """Bring the items of a metric ("suite.task.score") together.

    Items with one cluster, or with equal prompt hashes (a question that occurs twice, several answers to it), depend on
    each other.

    Raises:
        UserError: an id stands for different questions, or items have different weights.
    """
    suite, task, score = metric.split(".")
    mine, theirs = (_of_score(side.get((suite, task), {}), score) for side in (candidate, baseline))
    common = mine.keys() & theirs.keys()
    _check_questions(f"{suite}.{task}", [(mine[i], theirs[i]) for i in common])
    names = sorted(mine.keys() | theirs.keys())
    missing: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    columns: tuple[list[float | None], list[float | None]] = ([], [])
    for side, column, reasons in zip((mine, theirs), columns, missing, strict=True):
        for name in names:
            value, reason = _value(side[name], score) if name in side else (None, None)
            column.append(value)
            if reason:
                reasons[reason] += 1
    items = [mine.get(name) or theirs[name] for name in names]
    return Pairing(
        *columns,
        _weights(metric, names, mine, theirs),
        _clusters(items),
        *missing,
        only_candidate=len(mine.keys() - common),
        only_baseline=len(theirs.keys() - common),
    )


def _of_score(items: Mapping[str, Item], score: str) -> dict[str, Item]:
    """Items that have the score, and those that failed before they could get it."""
    if not any(score in item.scores for item in items.values()):
        return {}
    return {name: item for name, item in items.items() if score in item.scores or (item.missing and not item.scores)}


def _check_questions(task: str, pairs: Sequence[tuple[Item, Item]]) -> None:
    different = sum(a.prompt_hash != b.prompt_hash for a, b in pairs)
    if different:
        raise UserError(
            f"the two were asked different questions: {different} of {len(pairs)} items of {task} differ in the "
            "prompt, the choices or the gold answer: measure both on the same data with the same settings"
        )


def _value(item: Item, score: str) -> tuple[float | None, str | None]:
    """Value, or why there is none."""
    value = item.scores.get(score)
    if value is None:
        return None, item.missing or "no score"
    if isinstance(value, str | list | tuple | dict):
        raise UserError(f"{item.suite}.{item.task}.{score} of item {item.id} is {value!r:.40}, not a number")
    return (float(value), None) if math.isfinite(value) else (None, "not a finite number")


def _weights(
    metric: str, names: Sequence[str], mine: Mapping[str, Item], theirs: Mapping[str, Item]
) -> list[float] | None:
    """Weights of the items. That of a failed item is unknown: the other side's, or the mean of the others."""
    score = metric.rsplit(".", 1)[1]
    known: list[float | None] = []
    for name in names:
        sides = [
            side[name].weight for side in (mine, theirs) if name in side and _value(side[name], score)[0] is not None
        ]
        if len(sides) == 2 and not math.isclose(*sides, rel_tol=1e-9):
            raise UserError(
                f"{metric}: items weigh differently on the two sides ({sides[0]:g} and {sides[1]:g} for item {name}), "
                "as tokens of two tokenizers do: compare bits per byte instead"
            )
        known.append(sides[0] if sides else None)
    weights = [w for w in known if w is not None]
    if any(not w > 0 for w in weights):
        raise UserError(f"{metric}: an item has a weight of zero or below: leave such items out of the measurement")
    if all(w == 1.0 for w in weights):
        return None
    return [sum(weights) / len(weights) if w is None else w for w in known]


def _clusters(items: Sequence[Item]) -> list[Hashable] | None:
    labels: list[Hashable] = [("cluster", i.cluster) if i.cluster else ("prompt", i.prompt_hash) for i in items]
    return labels if len(set(labels)) < len(labels) else None
