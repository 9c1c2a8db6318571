"""Does the gate keep its error on these data? Two different checkpoints, their outcomes swapped at random.

After swapping the two sides of whole clusters at random there is no true difference, so at a margin of zero a metric
may pass in a share alpha of the releases. Clusters are also drawn anew with replacement, as other releases would have
other items: with the items fixed, the few values that a difference of 0/1 outcomes can take would make the share jump
between 0 and 12 % from one number of changed items to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from evals.comparability import check_comparable
from evals.decision import LEAST_COUNT, Rule, compare, enough
from evals.measured import Measured
from evals.pairing import Pairing, pair_metric, tasks_of
from evals.policy import Policy, rules_of
from training.artifacts import progress
from training.artifacts.errors import UserError

RELEASES = 1000
State = Literal["holds", "off", "untested"]


@dataclass(frozen=True)
class SelfTest:
    """One metric.

    Attributes:
        passed: share of the releases in which it passed at a margin of zero; None if it was not tested.
        low, high: interval of that share, exact binomial, at 95 % for all metrics together.
        changed: clusters on which the two checkpoints differ.
        state: `off` if the interval excludes alpha from above, or if no release passes though many clusters changed;
            `untested` with fewer than 20 changed clusters.
    """

    metric: str
    passed: float | None
    low: float | None
    high: float | None
    changed: int
    state: State


def self_test(
    candidate: Measured, baseline: Measured, policy: Policy, alpha: float, releases: int = RELEASES, seed: int = 0
) -> list[SelfTest]:
    """Test every metric that the gate decides on. Raises `UserError` as `compare_results` does."""
    mine, theirs = tasks_of(candidate.items, candidate.name), tasks_of(baseline.items, baseline.name)
    rules, _ = rules_of(policy, candidate, baseline)
    check_comparable(candidate, baseline, rules)
    pairings = [(rule, pair_metric(mine, theirs, rule.metric)) for rule in rules]
    pairings = [(rule, pairing) for rule, pairing in pairings if pairing.complete]
    if not pairings:
        raise UserError("the self-test needs a metric that both sides measured")
    rng = np.random.default_rng(seed)
    rows = progress.track(pairings, "self-test, metrics")
    return [_test(rule, pairing, alpha, alpha_of_interval(len(pairings)), releases, rng) for rule, pairing in rows]


def alpha_of_interval(metrics: int) -> float:
    """Two-sided error of each interval, so that all of them hold in 95 % (Bonferroni)."""
    return 0.05 / metrics


def _test(
    rule: Rule, pairing: Pairing, alpha: float, interval_alpha: float, releases: int, rng: np.random.Generator
) -> SelfTest:
    places = np.array(pairing.complete)
    a, b = (np.array([column[i] for i in places], dtype=float) for column in (pairing.candidate, pairing.baseline))
    weights = None if pairing.weights is None else np.array(pairing.weights)[places]
    members = _members(pairing, places)
    changed = sum(bool((np.abs(a[m] - b[m]) > 1e-9).any()) for m in members)
    if len(members) < LEAST_COUNT or changed < LEAST_COUNT:
        return SelfTest(rule.metric, None, None, None, changed, "untested")
    alone = pairing.clusters is None
    passes = 0
    for _ in range(releases):
        drawn_clusters = rng.integers(len(members), size=len(members))
        picked = drawn_clusters if alone else np.concatenate([members[i] for i in drawn_clusters])
        sizes = [1] * len(members) if alone else [len(members[i]) for i in drawn_clusters]
        swap = np.repeat(rng.random(len(members)) < 0.5, sizes)
        labels = None if alone else [int(i) for i in np.repeat(np.arange(len(members)), sizes)]
        first, second = np.where(swap, b[picked], a[picked]), np.where(swap, a[picked], b[picked])
        scale = None if weights is None else [float(w) for w in weights[picked]]
        d = compare(rule, first.tolist(), second.tolist(), scale, labels, alpha)
        passes += enough(d) and d.low is not None and d.low > 0
    interval = stats.binomtest(passes, releases).proportion_ci(1 - interval_alpha, method="exact")
    off = interval.low > alpha or interval.high < alpha / 10
    low, high = float(interval.low), float(interval.high)
    return SelfTest(rule.metric, passes / releases, low, high, changed, "off" if off else "holds")


def _members(pairing: Pairing, places: np.ndarray) -> Sequence[np.ndarray]:
    """Positions of the items of each cluster."""
    if pairing.clusters is None:
        return [np.array([i]) for i in range(len(places))]
    groups: dict[object, list[int]] = {}
    for position, place in enumerate(places):
        groups.setdefault(pairing.clusters[place], []).append(position)
    return [np.array(positions) for positions in groups.values()]
