"""A metric split by a tag of its items: use case, language."""

from __future__ import annotations

from collections import Counter

from evals.report.charts import Group
from evals.report.contents import Contents
from evals.results import estimate_of
from evals.statistics import Estimate
from evals.suite import Metric
from evals.table import wins_against

MOST = 12  # values of a tag that a figure shows, the commonest first


def sliced(contents: Contents, key: str, tag: str) -> tuple[list[Group], str] | None:
    """A group per value of the tag, and a note; None where items do not have it.

    A metric of wins is the win rate of each candidate against the last baseline; any other, the mean of each model.
    """
    metric = contents.metrics[key]
    suite, task, score = key.split(".")
    counts: Counter[str] = Counter()
    for items in contents.items.values():
        tagged = Counter(
            item.tags[tag]
            for item in items
            if item.suite == suite and item.task == task and score in item.scores and tag in item.tags
        )
        counts |= tagged  # the most that any model has
    if len(counts) < 2:
        return None
    values = sorted(counts, key=lambda value: (-counts[value], value))
    groups = []
    for value in values[:MOST]:
        estimates = {
            name: estimate
            for name in contents.policies
            if (estimate := _estimate(contents, name, key, metric, (tag, value))) is not None
        }
        if estimates:
            groups.append(Group(f"{value} ({counts[value]:,} items)", estimates))
    if not groups:
        return None
    left_out = len(values) - MOST
    return groups, f" The {MOST} commonest of {len(values)} are shown." if left_out > 0 else ""


def _estimate(contents: Contents, name: str, key: str, metric: Metric, tag: tuple[str, str]) -> Estimate | None:
    items, baseline = contents.items[name], contents.baseline
    if metric.wins:
        if baseline is None or name not in contents.candidates:
            return None
        return wins_against(items, contents.items[baseline], key, tag)
    suite, task, score = key.split(".")
    rows = [
        (item.scores[score], item)
        for item in items
        if item.suite == suite and item.task == task and score in item.scores and item.tags.get(tag[0]) == tag[1]
    ]
    estimate = estimate_of(rows, metric) if rows else None
    return estimate if estimate is not None and estimate.value is not None else None
