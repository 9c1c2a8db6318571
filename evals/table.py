"""The table of a run, from its result files alone: a section per suite, a row per declared metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.catalog import SUITES
from evals.pairs import pairs_of
from evals.results import Item, Result
from evals.statistics import Estimate, win_rate
from evals.suite import EVERY_TASK, Metric

Run = Sequence[tuple[Result, list[Item]]]
SHARE_DIGITS_FROM = 1000  # items from which shares have a decimal: an interval is then below 3 points


@dataclass(frozen=True)
class Row:
    """One row: an estimate for each model, None where it was not measured.

    Attributes:
        section: title of the suite.
        metric: "suite.task.score", or "suite.task.score.wins".
        words: for people.
        cells: in the order of the table's labels.
        against: file name of the model that win rates are against, None for a mean.
    """

    section: str
    metric: str
    words: str
    share: bool
    cells: tuple[Estimate | None, ...]
    against: str | None = None

    @property
    def items(self) -> int:
        """The most items that a cell rests on."""
        return max((cell.n for cell in self.cells if cell is not None), default=0)


@dataclass(frozen=True)
class Table:
    """Labels of the models, rows, and how texts were generated."""

    labels: tuple[str, ...]
    systems: tuple[str, ...]
    rows: tuple[Row, ...]
    sampling: str


def make(run: Run, baselines: Sequence[str]) -> Table:
    """Build the table. Win rates are paired by item, ties counting half."""
    rows: list[Row] = []
    for suite in SUITES:
        keys = _keys(suite.name, [result for result, _ in run])
        for key in keys:
            metric = next(result.metric(key) for result, _ in run if key in result.declared)
            if metric.wins:
                rows += _win_rows(run, suite.title, key, metric, baselines)
            cells = tuple(result.metrics.get(key) for result, _ in run)
            rows.append(Row(suite.title, key, metric.words, metric.share, cells))
    labels = tuple(result.label for result, _ in run)
    return Table(labels, tuple(result.system for result, _ in run), tuple(rows), _sampling(run))


def _keys(suite: str, results: Sequence[Result]) -> list[str]:
    """The metrics of a suite that any model has, in the order in which the suite declares them, then by task."""
    declared = {key for result in results for key in result.declared if key.split(".", 1)[0] == suite}
    patterns = [metric.name for s in SUITES if s.name == suite for metric in s.metrics]

    def place(key: str) -> tuple[int, str, int]:
        _, task, score = key.split(".")
        exact, pattern = f"{task}.{score}", f"{EVERY_TASK}.{score}"
        if exact in patterns:
            return patterns.index(exact), "", 0
        # Tasks that bring their metrics along follow, task by task.
        return len(patterns), task, patterns.index(pattern) if pattern in patterns else len(patterns)

    return sorted(declared, key=place)


def as_json(table: Table) -> dict[str, object]:
    """The table as JSON: each cell names its model."""

    def cell(label: str, system: str, e: Estimate | None) -> dict[str, object] | None:
        if e is None:
            return None
        return {"label": label, "system": system, "value": e.value, "low": e.low, "high": e.high, "n": e.n,
                "missing": e.missing}  # fmt: skip

    rows = [
        {
            "section": r.section,
            "row": r.words,
            "metric": r.metric,
            "against": r.against,
            "cells": [cell(*each) for each in zip(table.labels, table.systems, r.cells, strict=True)],
        }
        for r in table.rows
    ]
    return {"labels": list(table.labels), "systems": list(table.systems), "rows": rows, "sampling": table.sampling}


def text(estimate: Estimate | None, share: bool) -> str:
    """`58 [48, 68]` for a share in per cent, `1.03 [1.01, 1.05]` otherwise; `±2` over seeds
    alone is added where prompts were answered several times, `!3` when three are missing."""
    if estimate is None:
        return ""
    missing = f" !{estimate.missing}" if estimate.missing else ""
    if estimate.value is None:
        return f"missing{missing}"
    factor, digits = (100, 1 if estimate.n >= SHARE_DIGITS_FROM else 0) if share else (1, 2)

    def number(value: float) -> str:
        return f"{factor * value:.{digits}f}"

    seeds = "" if estimate.seed_half is None else f" ±{number(estimate.seed_half)}"
    if estimate.low is None or estimate.high is None:
        return f"{number(estimate.value)} [no interval]{seeds}{missing}"
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]{seeds}{missing}"


def wins_against(
    candidate: Sequence[Item], baseline: Sequence[Item], key: str, tag: tuple[str, str] | None = None
) -> Estimate | None:
    """Share of common items on which the candidate scores higher, ties half; None without any.

    Args:
        key: "suite.task.score".
        tag: name and value of a tag that items must have.
    """
    pairs, unpaired = pairs_of(candidate, baseline, key)
    pairs = [(a, b) for a, b in pairs if tag is None or a.tags.get(tag[0]) == tag[1]]
    if not pairs:
        return None
    score = key.rsplit(".", 1)[1]
    rate = win_rate([a.scores[score] or 0.0 for a, _ in pairs], [b.scores[score] or 0.0 for _, b in pairs])
    return Estimate(rate.value, rate.low, rate.high, rate.n, 0 if tag else unpaired)


def _win_rows(run: Run, section: str, key: str, metric: Metric, baselines: Sequence[str]) -> list[Row]:
    rows = []
    for base, theirs in run:
        if base.system in baselines and key in base.declared:
            cells = tuple(
                None if result.system == base.system or key not in result.declared else wins_against(items, theirs, key)
                for result, items in run
            )
            words = f"{metric.words}: preferred to {base.label}"
            rows.append(Row(section, f"{key}.wins", words, True, cells, base.system))
    return rows


def _sampling(run: Run) -> str:
    """How the answers were generated, in a sentence."""
    kinds = {
        (r.sampling["temperature"], r.sampling["max_tokens"], r.seed) for r, _ in run if r.ask != "score" and r.sampling
    }
    settings = [
        (f"at temperature {t:g}, each with a seed of its own (run {seed})" if t else "greedily")
        + f", with at most {tokens} tokens"
        for t, tokens, seed in sorted(kinds)
    ]
    return f"Answers were generated {'; '.join(settings)}, where a protocol does not say otherwise." if settings else ""
