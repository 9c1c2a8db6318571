"""What the suites on the miniature world share: a row, its answer, the world's verdict, an item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.client import Answer, Refused
from evals.results import Item, prompt_hash
from training.artifacts.errors import UserError
from training.artifacts.rows import open_source
from training.artifacts.skips import Skip
from training.miniature import Verdict, judge

Row = Mapping[str, Any]
Scores = Callable[[Row, Answer, Verdict], Mapping[str, float | None]]


def read_rows(world: Path, name: str) -> list[Row]:
    """Rows of one of the world's files. Raises `UserError` if it is missing, or a row of it is damaged."""
    path = world / name
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `python -m training world`, or give its folder as --world")
    rows: list[Row] = []
    for row in open_source(str(path)).rows():
        if isinstance(row, Skip):
            raise UserError(f"{path} holds a damaged row ({row.reason}): make the world again")
        rows.append(row)
    return rows


def make_items(
    suite: str,
    task: str | Callable[[Row], str],
    rows: Sequence[Row],
    answers: Sequence[Answer | Refused],
    scores: Scores,
    names: Sequence[str],
) -> list[Item]:
    """Items of answered rows. A row without an answer has every score of `names` missing.

    Args:
        scores: from a row, its answer and the world's verdict to the values of `names`.
    """
    items = []
    for row, answer in zip(rows, answers, strict=True):
        values: Mapping[str, float | None] = dict.fromkeys(names)
        text = finish_reason = missing = seed = None
        if isinstance(answer, Refused):
            missing = answer.reason
        else:
            text, finish_reason, seed = answer.text, answer.finish_reason, answer.seed
            verdict = judge(row, text, finished=finish_reason == "stop")
            values = {name: value for name, value in scores(row, answer, verdict).items() if name in names}
        items.append(
            Item(
                suite=suite,
                task=task if isinstance(task, str) else task(row),
                id=str(row["id"]),
                prompt=row["messages"],
                prompt_hash=prompt_hash(row["messages"]),
                response=text,
                finish_reason=finish_reason,
                scores=values,
                tags={name: str(row[name]) for name in ("use_case", "mode", "kind", "group") if name in row},
                missing=missing,
                seed=seed,
            )
        )
    return items


def flag(value: bool | None) -> float | None:
    """A verdict's field as a score; None stays a missing measurement."""
    return None if value is None else float(value)
