"""Paired comparisons of two models on the same items, positive where the candidate scores higher.

Which bound, and why. 0/1 outcomes of independent items take Tango's score interval, which stays wide when hardly any
item changed. Everything else (clusters, weights, other values) takes Student's t over clusters with the jackknife
variance, after adding to the data one more cluster that lost everything (for the lower bound) or won everything (for
the upper one), as the exact binomial interval acts on one more failure. Without that cluster a t or a bootstrap takes
"no cluster has changed yet" as certainty: at a true drop of 2 points on 20 clusters it lets 68 % of releases pass.

Measured (tests/simulations/test_error_rates.py; 2,000 draws for each setting: 20 to 300 clusters of 1 to 20 items,
equal, uniform, skewed and with a few large ones, items of a cluster independent, partly or wholly alike, drops of 2, 5
and 10 points at 2 to 25 % changed items): a drop of the margin passes a one-sided 5 % bound in at most 4.4 % of draws
where items were gained as well as lost. Where nothing was gained in equal clusters that are wholly alike, few values
are possible, and it passes in up to 6.2 %, by exact computation.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from evals.statistics.clusters import ClusterSums, Floats, cluster_sums, is_binary
from evals.statistics.intervals import ALPHA, Estimate, quantile


@dataclass(frozen=True)
class Difference:
    """A paired difference (candidate minus baseline) over the items that both have.

    Attributes:
        value: the mean difference; None without common items.
        low, high: its interval; None without one (one item, one cluster, or nothing that varies).
        n: number of common items.
        p_worse: one-sided p-value of the hypothesis that the true difference is zero or above; small means worse.
            Exact McNemar for 0/1 outcomes of independent items, otherwise Student's t over clusters.
        clusters: number of independent clusters; n where each item is its own.
        item_variance: n times the variance of `value`, design effect included: what the number of items needed
            follows from.
        added: n times what the added cluster takes off the lower bound's centre; 0 for Tango's.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    p_worse: float | None = None
    clusters: int = 0
    item_variance: float | None = None
    added: float = 0.0

    def numbers(self) -> tuple[float, float, float]:
        """Value, low and high.

        Raises:
            ValueError: nothing was measured, or too little for an interval.
        """
        if self.value is None or self.low is None or self.high is None:
            raise ValueError("nothing was measured, or too little for an interval")
        return self.value, self.low, self.high


def paired_difference(
    candidate: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
    alpha: float = ALPHA,
) -> Difference:
    """Mean of candidate minus baseline over paired items; the module's docstring tells which interval it takes.

    Args:
        candidate, baseline: one finite value per item; shape (items,).
        clusters: items of one cluster are not independent; each its own when None.
        weights: of the items; equal when None.
        alpha: two-sided error; each end is a one-sided bound at alpha / 2.
    """
    a, b = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    if len(a) == 0:
        return Difference(None, None, None, 0)
    scale = None if weights is None else np.asarray(weights, dtype=float)
    sums = cluster_sums(a - b, scale, clusters)
    if scale is None and sums.count == len(a) and is_binary(a) and is_binary(b):
        return _binary(a, b, alpha)
    return _clustered(a, b, sums, alpha)


def tango(gained: int, lost: int, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Score interval of a difference of paired shares (Tango 1998, Statistics in Medicine 17:891).

    Args:
        gained, lost: items that only the candidate, or only the baseline, got right.
        n: all items.
    """
    z = float(special.ndtri(1 - alpha / 2))
    observed = (gained - lost) / n
    edge = 1 - 1e-9

    def root(shift: float, low: float, high: float) -> float:
        return float(optimize.brentq(lambda d: float(tango_score(gained, lost, n, d)) + shift, low, high, xtol=1e-7))

    low = -1.0 if tango_score(gained, lost, n, -edge) < z else root(-z, -edge, observed)
    high = 1.0 if tango_score(gained, lost, n, edge) > -z else root(z, observed, edge)
    return low, high


def tango_score(gained: Floats | int, lost: Floats | int, n: int, difference: float) -> Floats:
    """Tango's statistic: standard normal if `difference` is the true one. Arrays of `gained` and `lost` are allowed."""
    gained, lost = np.asarray(gained, dtype=float), np.asarray(lost, dtype=float)
    a = 2.0 * n
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    p_lost = (np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * p_lost + difference * (1 - difference))
    score: Floats = (gained - lost - n * difference) / np.sqrt(np.maximum(variance, 1e-12))
    return score


def mcnemar(gained: int, lost: int) -> float:
    """Exact one-sided p-value of "not worse" (McNemar 1947): as many items lost, or more, if a changed item is lost as
    often as gained."""
    return float(stats.binom.sf(lost - 1, gained + lost, 0.5))


def wins(candidate: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """1 where the candidate scores higher, 0 where lower, 0.5 where equal; shape (items,)."""
    a, b = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    return [float(w) for w in np.where(np.abs(a - b) < 1e-9, 0.5, (a > b).astype(float))]


def win_difference(
    scores: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
    alpha: float = ALPHA,
) -> Difference:
    """Win rate minus one half, of scores 1 (won), 0.5 (tie) and 0 (lost).

    It is half of the share won minus the share lost, so that ties narrow its interval, as they should.
    """
    won, lost = [float(s == 1) for s in scores], [float(s == 0) for s in scores]
    d = paired_difference(won, lost, clusters, weights, alpha)
    value, low, high = (None if x is None else x / 2 for x in (d.value, d.low, d.high))
    variance = None if d.item_variance is None else d.item_variance / 4
    return Difference(value, low, high, d.n, d.p_worse, d.clusters, variance, d.added / 2)


def win_rate(
    candidate: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    alpha: float = ALPHA,
) -> Estimate:
    """Share of items where the candidate scores higher; equal scores count half."""
    d = win_difference(wins(candidate, baseline), clusters, alpha=alpha)
    rate, low, high = (None if x is None else x + 0.5 for x in (d.value, d.low, d.high))
    return Estimate(rate, low, high, d.n)


def _binary(a: Floats, b: Floats, alpha: float) -> Difference:
    n, gained, lost = len(a), int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    value = (gained - lost) / n
    low, high = (None, None) if n == 1 else tango(gained, lost, n, alpha)
    return Difference(value, low, high, n, mcnemar(gained, lost), n, (gained + lost) / n - value**2)


def _clustered(a: Floats, b: Floats, sums: ClusterSums, alpha: float) -> Difference:
    n, value, variance = len(a), sums.mean, sums.variance
    if variance is None:
        return Difference(value, None, None, n, None, sums.count)
    reach = _reach(a, b)
    if variance <= 1e-18 and abs(value) == reach < 1:  # equal changes without bounds: their spread is unknown
        return Difference(value, None, None, n, None, sums.count)
    lower, upper = sums.with_cluster(-reach), sums.with_cluster(reach)
    low, high = (s.mean + sign * _half(s, alpha) for s, sign in ((lower, -1), (upper, 1)))
    p_worse = float(stats.t.cdf(value / math.sqrt(variance), sums.degrees)) if variance > 0 else None
    added = reach * sums.typical_weight * n / float(sums.weights.sum())
    if high - low <= 1e-12:
        return Difference(value, None, None, n, p_worse, sums.count, n * variance, added)
    return Difference(value, min(low, value), max(high, value), n, p_worse, sums.count, n * variance, added)


def _half(sums: ClusterSums, alpha: float) -> float:
    return quantile(1 - alpha / 2, sums.degrees) * math.sqrt(sums.variance or 0.0)


def _reach(a: Floats, b: Floats) -> float:
    """How much an item may change: 1 for values in [0, 1], otherwise the largest change that occurred; a rarer and
    larger one cannot be excluded. Where nothing changed at all, the values' own standard deviation."""
    values = np.concatenate([a, b])
    if values.min() >= 0 and values.max() <= 1:
        return 1.0
    return float(np.abs(a - b).max()) or float(values.std())
