"""Items that two models have in common: the same question, asked alike, measured on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.results import Item


def pairs_of(candidate: Sequence[Item], baseline: Sequence[Item], key: str) -> tuple[list[tuple[Item, Item]], int]:
    """Common items of a metric ("suite.task.score"), and the number of all others."""
    suite, task, score = key.split(".")
    mine, theirs = (_by_id(items, suite, task, score) for items in (candidate, baseline))
    pairs = [
        (mine[identity], theirs[identity])
        for identity in sorted(mine.keys() & theirs.keys())
        if mine[identity].prompt_hash == theirs[identity].prompt_hash
        and mine[identity].scores[score] is not None
        and theirs[identity].scores[score] is not None
    ]
    return pairs, len(mine.keys() | theirs.keys()) - len(pairs)


def _by_id(items: Sequence[Item], suite: str, task: str, score: str) -> Mapping[str, Item]:
    return {item.id: item for item in items if item.suite == suite and item.task == task and score in item.scores}
