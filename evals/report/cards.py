"""The figures at the top of the page: of each candidate, win rates and the metrics that a release requires."""

from __future__ import annotations

from dataclasses import dataclass

from evals.report.contents import Contents
from evals.statistics import Estimate
from evals.suite import Metric
from evals.table import text


@dataclass(frozen=True)
class Card:
    """One figure: `58 %`, what it is, and its interval with the baseline's beside it."""

    figure: str
    words: str
    note: str
    doubtful: bool = False


def cards(contents: Contents, candidate: str) -> list[Card]:
    """Win rates against every baseline, then every required metric that the candidate has."""
    wins, means = [], []
    for key, metric in contents.metrics.items():
        if metric.wins:
            for base in contents.baselines:
                rate = contents.win_rate(candidate, base, key)
                if rate is not None and rate.value is not None:
                    words = f"preferred to {contents.labels[base]} ({metric.words})"
                    wins.append(_card(rate, metric, words, "", key in contents.doubtful, share=True))
        elif metric.required:
            estimate = contents.results[candidate].metrics.get(key)
            if estimate is not None and estimate.value is not None:
                note = _of_baseline(contents, key, metric)
                means.append(_card(estimate, metric, metric.words, note, key in contents.doubtful, metric.share))
    return wins + means


def _card(estimate: Estimate, metric: Metric, words: str, note: str, doubtful: bool, share: bool) -> Card:
    value, _, interval = text(Estimate(estimate.value, estimate.low, estimate.high, estimate.n), share).partition(" ")
    less = ", less is better" if metric.better == "lower" else ""
    missing = f", {estimate.missing:,} missing" if estimate.missing else ""
    figure = f"{value} %" if share else value
    return Card(figure, words, f"{interval}, n = {estimate.n:,}{missing}{less}{note}", doubtful)


def _of_baseline(contents: Contents, key: str, metric: Metric) -> str:
    if contents.baseline is None:
        return ""
    estimate = contents.results[contents.baseline].metrics.get(key)
    if estimate is None or estimate.value is None:
        return ""
    value = text(estimate, metric.share).partition(" ")[0]
    return f"; {contents.labels[contents.baseline]}: {value}{' %' if metric.share else ''}"
