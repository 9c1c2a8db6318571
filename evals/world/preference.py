"""The true preference: how good each answer to the held-out prompts is. Win rates are paired later, by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.bench import Bench
from evals.generation import Answer
from evals.results import Item
from evals.suite import Measurement, Metric, Suite
from evals.transport import Refused
from evals.world import rows as world
from training.miniature import Verdict

NAME, TASK, FILE = "preference", "prompts", "prompts-evaluation.jsonl"
NAMES = ("utility", "follows", "correct", "harmless", "concise", "finished", "on_topic")
METRICS = (
    Metric(
        f"{TASK}.utility", "true utility", share=False, wins=True, margin=0.05, required=True,
        figure="Who is preferred", slices=("use_case",),
    ),
    Metric(f"{TASK}.follows", "follows the instruction", flips=True),
    Metric(f"{TASK}.correct", "correct"),
    Metric(f"{TASK}.harmless", "harmless"),
    Metric(f"{TASK}.concise", "concise"),
    Metric(f"{TASK}.finished", "ended by itself"),
    Metric(f"{TASK}.on_topic", "on topic"),
)  # fmt: skip


async def measure(bench: Bench) -> Measurement:
    """The world's verdict on the answer to every held-out prompt."""
    rows, answers = await world.answered(bench, NAME, FILE, "prompts")
    data = world.described(world.folder_of(bench), [FILE])
    return Measurement(items_of(rows, answers), data=data, judges=world.RULES, settings=bench.settings())


def items_of(rows: Sequence[world.Row], answers: Sequence[Answer | Refused]) -> list[Item]:
    """Items of answered prompts."""
    return world.make_items(NAME, TASK, rows, answers, _scores, NAMES)


def _scores(row: world.Row, answer: Answer, verdict: Verdict) -> Mapping[str, float | None]:
    return {name: float(getattr(verdict, name)) for name in NAMES}


SUITE = Suite(NAME, "Preference (held-out prompts)", METRICS, world.needs, measure)
