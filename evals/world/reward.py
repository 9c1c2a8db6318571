"""The world's part of the reward suite: rewards of answers to its prompts, and what the labelers' noise allows.

Labelers of the world are known, so that beside a reward model's accuracy stand, on the same pairs, how often two
labelers agree and how often the true preference agrees with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.bench import Bench
from evals.results import Item, prompt_hash
from evals.sources import Sources, specs_of
from evals.suite import Measurement, Metric, Suite
from evals.suites.reward import NAME, gap_of, mean_reward, scores_of, settings
from evals.world import preference
from evals.world import rows as world
from training.artifacts.comparisons import Comparison, pairs_of
from training.artifacts.files import lines_of
from training.miniature import Labeler, agreement, best_accuracy, judge

METRICS = (
    Metric("*.prefers_better", "{task}: prefers the truly better response"),
    Metric("*.labelers_agree", "{task}: two labelers agree", None),
    Metric("*.true_preference", "{task}: the true preference agrees with labelers", None),
)
Pair = tuple[Mapping[str, Any], str, str]


def needs(sources: Sources) -> str | None:
    """A world and a reward model."""
    return world.needs(sources) or (None if sources.reward else "give --reward")


async def measure(bench: Bench) -> Measurement:
    """A policy's mean reward on the world's prompts; the reward model on pairs whose true order is known."""
    assert bench.reward is not None, "the suite needs a reward model"
    if bench.subject.ask == "score":
        return Measurement(await on_true_preference(bench))
    # The same prompts, seeds and so answers as those of the true preference: they come from the cache.
    rows, answers = await world.answered(bench, preference.NAME, preference.FILE, "prompts, for rewards")
    items = await mean_reward(bench, rows, answers)
    return Measurement(items, data=world.described(world.folder_of(bench), [preference.FILE]), settings=settings(bench))


async def on_true_preference(bench: Bench) -> list[Item]:
    """Items of pairs of known prompts, clustered by prompt, by group of labelers."""
    folder = world.world_of(bench)
    specs = specs_of(folder)
    assert bench.reward is not None, "the suite needs a reward model"
    comparisons = [c for c in bench.sources.comparisons if prompt_hash(list(c.messages)) in specs]
    scores = await scores_of(bench.client, bench.reward.checkpoint, comparisons)
    labelers = _labelers(folder)
    items: list[Item] = []
    for comparison, rewards in zip(comparisons, scores, strict=True):
        row = specs[prompt_hash(list(comparison.messages))]
        group = comparison.labeler_group or "unnamed"
        for i, j, outcome in pairs_of(comparison):
            if outcome != 0:
                items.append(_item(comparison, row, rewards, labelers.get(group, ()), (i, j)))
    return items


def _item(
    comparison: Comparison, row: Mapping[str, Any], rewards: Sequence[Any], labelers: Sequence[Labeler],
    places: tuple[int, int],
) -> Item:  # fmt: skip
    first, second = (comparison.responses[place] for place in places)
    gap, missing = gap_of(rewards[places[0]], rewards[places[1]])
    truth = sum(
        sign * judge(row, r.text, finished=r.finish_reason != "length").utility
        for sign, r in ((1, first), (-1, second))
    )
    scores: dict[str, float | None] = {}
    if truth:
        scores["prefers_better"] = None if gap is None else float(gap * truth > 0)
    pair: list[Any] = [(row, first.text, second.text)]
    if labelers:
        scores |= {name: share for name, share in _noise(labelers, pair).items() if share is not None}
    return Item(
        suite=NAME,
        task=f"labelers_{comparison.labeler_group or 'unnamed'}".replace(".", "-"),
        id=f"true/{comparison.id}/{places[0]}-{places[1]}",
        prompt=list(comparison.messages),
        prompt_hash=prompt_hash([list(comparison.messages), first.text, second.text]),
        response=None,
        finish_reason=None,
        scores=scores,
        cluster=prompt_hash(list(comparison.messages)),
        missing=missing if "prefers_better" in scores else None,
    )


def _noise(labelers: Sequence[Labeler], pair: list[Any]) -> dict[str, float | None]:
    """How often two labelers agree on a pair, and how often the true preference agrees with one; None: all tied."""
    try:
        return {"labelers_agree": agreement(labelers, pair), "true_preference": best_accuracy(labelers, pair)}
    except ZeroDivisionError:
        return {"labelers_agree": None, "true_preference": None}


def _labelers(folder: Path) -> dict[str, list[Labeler]]:
    labelers: dict[str, list[Labeler]] = {}
    for line in lines_of(folder / "labelers.jsonl"):
        row = json.loads(line)
        labelers.setdefault(row["group"], []).append(Labeler(**row))
    return labelers


SUITE = Suite(NAME, "Reward", METRICS, needs, measure)
