"""The true preference: how good each answer to the held-out prompts is. Win rates are paired later, by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.client import Answer, Refused
from evals.results import Item
from evals.suites.judged import Row, make_items
from training.miniature import Verdict

SUITE, TASK = "preference", "prompts"
NAMES = ("utility", "follows", "correct", "harmless", "concise", "finished", "on_topic")


def items(rows: Sequence[Row], answers: Sequence[Answer | Refused]) -> list[Item]:
    return make_items(SUITE, TASK, rows, answers, _scores, NAMES)


def _scores(row: Row, answer: Answer, verdict: Verdict) -> Mapping[str, float | None]:
    return {name: float(getattr(verdict, name)) for name in NAMES}
