"""The decision on one metric: has the candidate lost no more than the margin?

PASS where the one-sided lower bound of the paired difference excludes a drop of the margin: the null hypothesis is that
drop, not "no difference". FAIL where the upper bound excludes zero and the difference itself is beyond the margin.
INCONCLUSIVE otherwise, with the number of items that would decide.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from evals.pairing import Pairing
from evals.statistics.paired import Difference, paired_difference, win_difference, wins
from evals.statistics.power import items_needed, margin_variance
from training.artifacts.errors import UserError

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Better = Literal["higher", "lower"]
T = TypeVar("T")
LEAST_COUNT = 20  # items and clusters: bounds on fewer rest on assumptions about their distribution


@dataclass(frozen=True)
class Rule:
    """A metric that the gate decides on.

    Attributes:
        metric: "suite.task.score".
        words: for people.
        margin: the drop that must be ruled out, in the metric's unit; of the win rate for `wins`.
        better: which way is better.
        share: values lie in [0, 1].
        wins: compared by the share of items won, ties half, instead of by the mean difference.
    """

    metric: str
    words: str
    margin: float
    better: Better = "higher"
    share: bool = True
    wins: bool = False


@dataclass(frozen=True)
class Row:
    """The decision on one metric.

    Attributes:
        metric, words, margin, wins: of the rule.
        outcome: PASS, FAIL or INCONCLUSIVE; reason: why it is not PASS, empty if it is.
        candidate, baseline: means over the items that both measured.
        difference: candidate minus baseline, positive is better whatever the metric's direction; for a win rate, that
            minus one half.
        low, high: one-sided bounds of the difference, each at level 1 - alpha.
        worst_low: the lower bound if every missing item counts against the candidate; None where nothing is missing.
        n: items that both sides measured; clusters: independent groups of them.
        changed: share of items on which the two differ.
        p_worse: one-sided p-value of "not worse".
        items_needed: items for a power of 80 % without a true difference; None if that cannot be known.
        missing_candidate, missing_baseline: reason -> number of items that were not measured.
        only_candidate, only_baseline: items that the other side does not have.
    """

    metric: str
    words: str
    margin: float
    wins: bool
    outcome: Outcome
    reason: str = ""
    candidate: float | None = None
    baseline: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    worst_low: float | None = None
    n: int = 0
    clusters: int = 0
    changed: float | None = None
    p_worse: float | None = None
    items_needed: int | None = None
    missing_candidate: Mapping[str, int] | None = None
    missing_baseline: Mapping[str, int] | None = None
    only_candidate: int = 0
    only_baseline: int = 0


def decide(rule: Rule, pairing: Pairing, alpha: float) -> Row:
    """Decide on one metric at one-sided error `alpha`.

    Raises:
        UserError: a value of a share lies outside [0, 1].
    """
    places = pairing.complete
    a, b = ([float(column[i] or 0.0) for i in places] for column in (pairing.candidate, pairing.baseline))
    if rule.share and any(not 0 <= v <= 1 for v in (*a, *b)):
        raise UserError(f"{rule.metric} is declared as a share but has values outside [0, 1]")
    weights, clusters = _at(pairing.weights, places), _at(pairing.clusters, places)
    d = compare(rule, a, b, weights, clusters, alpha)
    worst = _worst_case(rule, pairing, a + b, alpha) if pairing.incomplete and a else None
    worst_low = None if worst is None else worst.low
    constant = _constant(a) and _constant(b)
    outcome, reason = _outcome(rule, pairing, d, worst_low, constant)
    scale = np.ones(len(a)) if weights is None else np.array(weights)
    return Row(
        rule.metric, rule.words, rule.margin, rule.wins, outcome, reason,
        candidate=float(np.average(a, weights=scale)) if a else None,
        baseline=float(np.average(b, weights=scale)) if a else None,
        difference=d.value, low=d.low, high=d.high, worst_low=worst_low,
        n=d.n, clusters=d.clusters,
        changed=float(np.mean(np.abs(np.array(a) - np.array(b)) > 1e-9)) if a else None,
        p_worse=d.p_worse,
        items_needed=None if constant else _items_needed(rule, d, alpha),
        missing_candidate=dict(pairing.missing_candidate), missing_baseline=dict(pairing.missing_baseline),
        only_candidate=pairing.only_candidate, only_baseline=pairing.only_baseline,
    )  # fmt: skip


def compare(
    rule: Rule,
    candidate: Sequence[float],
    baseline: Sequence[float],
    weights: Sequence[float] | None,
    clusters: Sequence[Hashable] | None,
    alpha: float,
) -> Difference:
    """The difference that a rule is about, positive is better, with one-sided bounds at `alpha`."""
    a, b = _oriented(rule, candidate), _oriented(rule, baseline)
    if rule.wins:
        return win_difference(wins(a, b), clusters, weights, 2 * alpha)
    return paired_difference(a, b, clusters, weights, 2 * alpha)


def enough(d: Difference) -> bool:
    """Whether there are enough items and clusters for a decision."""
    return d.n >= LEAST_COUNT and d.clusters >= LEAST_COUNT


def _outcome(
    rule: Rule, pairing: Pairing, d: Difference, worst_low: float | None, constant: bool
) -> tuple[Outcome, str]:
    if d.value is None:
        return "INCONCLUSIVE", "no item was measured on both sides"
    if not enough(d):
        count = f"{d.n} items" if d.clusters == d.n else f"{d.n} items in {d.clusters} clusters"
        return "INCONCLUSIVE", f"only {count}: at least {LEAST_COUNT} are needed"
    unpaired = pairing.only_candidate + pairing.only_baseline
    if unpaired:
        return "INCONCLUSIVE", f"{unpaired} items are on one side only: measure both on the same items"
    if d.high is not None and d.high < 0 and d.value < -rule.margin:
        return "FAIL", f"worse by {-d.value:.3g}, more than the margin of {rule.margin:g}"
    if constant:
        return "INCONCLUSIVE", "every item has the same score on each side: nothing tells whether the metric measures"
    if d.low is None:
        return "INCONCLUSIVE", "the difference is the same for every item: its spread is unknown"
    if not d.low > -rule.margin:
        return "INCONCLUSIVE", f"a drop of {rule.margin:g} is not ruled out"
    if pairing.incomplete and not (worst_low is not None and worst_low > -rule.margin):
        return "INCONCLUSIVE", f"{pairing.incomplete} items missing: counted against the candidate they undo the PASS"
    return "PASS", ""


def _worst_case(rule: Rule, pairing: Pairing, observed: Sequence[float], alpha: float) -> Difference:
    """The difference if the candidate's missing items are the worst and the baseline's the best: 0 and 1 for shares,
    otherwise the worst and best value that either side has."""
    low, high = (0.0, 1.0) if rule.share else (min(observed), max(observed))
    worst, best = (low, high) if rule.better == "higher" else (high, low)
    a = [worst if v is None else v for v in pairing.candidate]
    b = [best if v is None else v for v in pairing.baseline]
    return compare(rule, a, b, pairing.weights, pairing.clusters, alpha)


def _items_needed(rule: Rule, d: Difference, alpha: float) -> int | None:
    """Items for 80 % power with the observed changes and design effect; at least the number that any decision needs."""
    if d.item_variance is None:
        return None
    unit = 2 if rule.wins else 1  # a win rate moves by half of the share won minus the share lost
    variance, margin = unit**2 * d.item_variance, unit * rule.margin
    changed = min(1.0, variance + (unit * (d.value or 0.0)) ** 2)
    least = 0.0 if d.added else margin_variance(margin, changed)
    count = items_needed(variance, margin, alpha, least_variance=least, added=unit * d.added)
    return None if count is None else max(LEAST_COUNT, count)


def _oriented(rule: Rule, values: Sequence[float]) -> list[float]:
    """Values of which higher ones are better; shares stay in [0, 1]."""
    if rule.better == "higher":
        return list(values)
    return [1 - v for v in values] if rule.share else [-v for v in values]


def _constant(values: Sequence[float]) -> bool:
    return max(values, default=0.0) - min(values, default=0.0) <= 1e-12


def _at(column: Sequence[T] | None, places: Sequence[int]) -> list[T] | None:
    return None if column is None else [column[i] for i in places]
