"""Items of answered rows: one per row, missing where no answer came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evals.generation import Answer
from evals.results import Item, prompt_hash
from evals.transport import Refused

Row = Mapping[str, Any]
TAGS = ("use_case", "language", "mode", "kind", "group")
Scorer = Callable[[Row, Answer], Mapping[str, float | None]]


def items_of(
    suite: str,
    task: str | Callable[[Row], str],
    rows: Sequence[Row],
    answers: Sequence[Answer | Refused],
    names: Sequence[str],
    score: Scorer,
    against: Sequence[str] = (),
) -> list[Item]:
    """One item per row. A row without an answer has every score of `names` missing, with the reason.

    Args:
        task: of all rows, or from a row to its task.
        rows: with `id` and `messages`; `cluster` and the columns of `TAGS` are kept where they are there.
        score: from a row and its answer to the values of `names`.
        against: columns that the answer is scored against, such as references: part of the item's hash.
    """
    return [
        _item(suite, task if isinstance(task, str) else task(row), row, answer, names, score, against)
        for row, answer in zip(rows, answers, strict=True)
    ]


def _item(
    suite: str, task: str, row: Row, answer: Answer | Refused, names: Sequence[str], score: Scorer,
    against: Sequence[str],
) -> Item:  # fmt: skip
    item = Item(
        suite=suite,
        task=task,
        id=str(row["id"]),
        prompt=row["messages"],
        prompt_hash=prompt_hash([row["messages"], *(row[name] for name in against)]),
        response=None,
        finish_reason=None,
        scores=dict.fromkeys(names),
        cluster=row.get("cluster"),
        tags={name: str(row[name]) for name in TAGS if row.get(name) is not None},
    )
    if isinstance(answer, Refused):
        return replace(item, missing=answer.reason)
    scores = dict(score(row, answer))
    return replace(item, response=answer.text, finish_reason=answer.finish_reason, scores=scores, seed=answer.seed)
