"""What alignment gained against what it cost: preference up, tax to the right."""

from __future__ import annotations

import math
from dataclasses import replace

from evals.pairs import pairs_of
from evals.report.charts import Point
from evals.report.contents import Contents
from evals.results import estimate_of
from evals.statistics import Estimate

SUITE, REWARD = "tax", "reward.prompts.reward"
POINT = 0.01  # unit of a metric without a margin
Z = 1.96


def pareto(contents: Contents) -> tuple[list[Point], tuple[str, str], bool, str] | None:
    """Points, words of both axes, whether the vertical one is a share, and a note; None without both sides."""
    baseline = contents.baseline
    keys = _tax_metrics(contents)
    if baseline is None or not keys:
        return None
    wins = next((key for key, metric in contents.metrics.items() if metric.wins), None)
    in_margins = all(contents.metrics[key].margin is not None for key in keys)
    points = []
    for system in contents.policies:
        cost = _tax(contents, system, baseline, keys, in_margins)
        gain = _gain(contents, system, baseline, wins)
        if cost is not None and gain is not None and gain.value is not None:
            points.append(Point(system, cost, gain))
    if len(points) < 2:
        return None
    unit = "margins" if in_margins else "points"
    words = ", ".join(contents.metrics[key].words for key in keys)
    name = contents.labels[baseline]
    above = f"preferred to {name}, %" if wins else "mean reward"
    note = (
        f"Tax: the mean of the changes against {name} on the same items, each in "
        + ("units of its margin (1: a whole margin lost)" if in_margins else "points of per cent")
        + f", of: {words}. Its interval takes the metrics as independent. Best is up and to the left."
    )
    if not wins:
        note += " A policy is trained on the reward: a high one alone proves nothing."
    return points, (f"tax against {name}, in {unit} (worse to the right)", above), wins is not None, note


def _tax_metrics(contents: Contents) -> list[str]:
    """The required metrics of the tax; all its shares with a direction where none is required."""
    metrics = {key: m for key, m in contents.metrics.items() if key.split(".")[0] == SUITE and m.better is not None}
    required = [key for key, metric in metrics.items() if metric.required]
    return required or [key for key, metric in metrics.items() if metric.share]


def _tax(contents: Contents, system: str, baseline: str, keys: list[str], in_margins: bool) -> Estimate | None:
    """Mean loss over the metrics, in their units; None where one of them is missing."""
    if system == baseline:
        return Estimate(0.0, None, None, len(keys))
    losses, variance, items = [], 0.0, 0
    for key in keys:
        metric = contents.metrics[key]
        pairs, _ = pairs_of(contents.items[system], contents.items[baseline], key)
        score = key.rpartition(".")[2]
        sign = 1.0 if metric.better == "lower" else -1.0
        rows = [(sign * ((a.scores[score] or 0.0) - (b.scores[score] or 0.0)), a) for a, b in pairs]
        change = estimate_of(rows, replace(metric, share=False))
        if change.value is None:
            return None
        unit = metric.margin if in_margins and metric.margin else POINT
        losses.append(change.value / unit)
        half = math.inf if change.low is None else (change.value - change.low) / unit
        variance += (half / Z) ** 2
        items += change.n
    mean, half = sum(losses) / len(losses), Z * math.sqrt(variance) / len(losses)
    low, high = (mean - half, mean + half) if math.isfinite(half) else (None, None)
    return Estimate(mean, low, high, items)


def _gain(contents: Contents, system: str, baseline: str, wins: str | None) -> Estimate | None:
    if wins is None:
        return contents.results[system].metrics.get(REWARD)
    if system == baseline:
        return Estimate(0.5, None, None, 0)
    return contents.win_rate(system, baseline, wins)
