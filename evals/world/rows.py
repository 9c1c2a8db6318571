"""Rows of the world's files, a model's answers to them, the world's verdict, items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.bench import Bench
from evals.generation import Answer
from evals.items import items_of
from evals.results import Item
from evals.sources import Sources
from evals.transport import Refused
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file
from training.artifacts.rows import open_source
from training.artifacts.skips import Skip
from training.miniature import WORLD_VERSION, Verdict, few_shot_prompt, judge, plain_prompt

Row = Mapping[str, Any]
Scores = Callable[[Row, Answer, Verdict], Mapping[str, float | None]]
LOCKED = "locked"  # folder of the second set
RULES = {"the miniature world's own rules": {"version": WORLD_VERSION, "usable": True}}


def needs(sources: Sources) -> str | None:
    """Nothing where there is a world."""
    return None if sources.world else "run `python -m training world`, or give --world"


def world_of(bench: Bench) -> Path:
    """The world's folder."""
    assert bench.sources.world is not None, "a suite on the world is measured only where there is one"
    return bench.sources.world


def folder_of(bench: Bench) -> Path:
    """The folder of the set of items that is measured: the world's own, or its locked one."""
    return world_of(bench) / LOCKED if bench.options.locked else world_of(bench)


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


def described(world: Path, names: Sequence[str]) -> dict[str, Mapping[str, object]]:
    """Path, hash and number of rows of some of the world's files, for `Measurement.data`."""
    return {
        f"world:{name}": {
            "path": str(world / name), "sha256": sha256_file(world / name), "rows": len(read_rows(world, name)),
            "skipped": {},
        }
        for name in names
    }  # fmt: skip


async def answered(bench: Bench, suite: str, name: str, label: str) -> tuple[Sequence[Row], Sequence[Answer | Refused]]:
    """Rows of one of the world's files, and the model's answer to each.

    A base model is asked with plain text, or after a few answered questions of the world, up to the next question.
    """
    rows = bench.limited(read_rows(folder_of(bench), name))
    few_shot = bench.subject.ask == "few-shot"
    sampling = replace(bench.sampling, stop=("question :",)) if few_shot else bench.sampling
    text_of = _few_shot_text if few_shot else _plain_text
    rows, answers = await bench.answered(suite, rows, label, sampling, text_of)
    return rows, [_stripped(answer) for answer in answers]


def make_items(
    suite: str,
    task: str | Callable[[Row], str],
    rows: Sequence[Row],
    answers: Sequence[Answer | Refused],
    scores: Scores,
    names: Sequence[str],
) -> list[Item]:
    """Items of answered rows, scored by the world's verdict.

    Args:
        scores: from a row, its answer and the verdict to values; those not in `names` are left out.
    """

    def score(row: Row, answer: Answer) -> Mapping[str, float | None]:
        verdict = judge(row, answer.text, finished=answer.finish_reason == "stop")
        return {name: value for name, value in scores(row, answer, verdict).items() if name in names}

    return items_of(suite, task, rows, answers, names, score, against=("spec",))


def flag(value: bool | None) -> float | None:
    """A verdict's field as a score; None stays a missing measurement."""
    return None if value is None else float(value)


def _stripped(answer: Answer | Refused) -> Answer | Refused:
    return answer if isinstance(answer, Refused) else replace(answer, text=answer.text.strip())


def _plain_text(row: Row) -> str:
    return plain_prompt(row["messages"])


def _few_shot_text(row: Row) -> str:
    return few_shot_prompt(row["messages"], row.get("mode", "plain"))
