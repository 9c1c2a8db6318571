"""Intervals and paired tests. Every interval is two-sided 95 % unless `alpha` says otherwise."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

ALPHA = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: the mean; None when nothing was measured.
        low, high: ends of the interval; None when nothing was measured.
        n: number of measured items.
        missing: number of items whose measurement failed. They are in no mean.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    missing: int = 0

    def numbers(self) -> tuple[float, float, float]:
        """Value, low and high of something that was measured."""
        return _numbers(self.value, self.low, self.high)


@dataclass(frozen=True)
class Difference:
    """A paired difference (candidate minus baseline) over the items that both have.

    Attributes:
        value, low, high: the mean difference and its interval; None without common items.
        n: number of common items.
        p_worse: one-sided p-value of the hypothesis that the true difference is zero or above; small means worse.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    p_worse: float | None = None

    def numbers(self) -> tuple[float, float, float]:
        """Value, low and high of something that was measured."""
        return _numbers(self.value, self.low, self.high)


def wilson(share: float, n: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927).

    Holds for 0/1 outcomes. For scores anywhere in [0, 1] the variance is at most that of 0/1 outcomes with the
    same mean, so the interval errs on the wide side.
    """
    z = float(stats.norm.ppf(1 - alpha / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def estimate(
    values: Sequence[float | None],
    weights: Sequence[float] | None = None,
    clusters: Sequence[Hashable] | None = None,
    *,
    share: bool,
    alpha: float = ALPHA,
) -> Estimate:
    """Mean of the measured values with an interval.

    Args:
        values: one an item; None (or nan) counts as missing.
        weights: of the items, such as tokens of a document; equal when None.
        clusters: items of one cluster (one prompt, one labeler) are not independent; each its own when None.
        share: values lie in [0, 1]: Wilson's interval, with the effective number of items where clusters or
            weights make it smaller. Otherwise Student's t over clusters with the linearised ratio variance.
    """
    keep = [i for i, v in enumerate(values) if v is not None and not math.isnan(v)]
    missing = len(values) - len(keep)
    if not keep:
        return Estimate(None, None, None, 0, missing)
    x = np.array([values[i] for i in keep], dtype=float)
    w = np.ones(len(keep)) if weights is None else np.array([weights[i] for i in keep], dtype=float)
    groups = np.arange(len(keep)) if clusters is None else _codes([clusters[i] for i in keep])
    mean = float((w * x).sum() / w.sum())
    count = int(groups.max()) + 1
    variance = _cluster_variance(x, w, groups, mean)
    if share:
        plain = clusters is None and weights is None
        effective = float(len(keep)) if plain else _effective(mean, variance, count, len(keep))
        low, high = wilson(min(1.0, max(0.0, mean)), effective, alpha)
    elif count < 2:
        low, high = -math.inf, math.inf
    else:
        half = float(stats.t.ppf(1 - alpha / 2, count - 1)) * math.sqrt(variance)
        low, high = mean - half, mean + half
    return Estimate(mean, low, high, len(keep), missing)


def paired_difference(
    candidate: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
    alpha: float = ALPHA,
) -> Difference:
    """Mean of candidate minus baseline over paired items.

    0/1 outcomes without clusters take Tango's score interval (Tango 1998), which stays wide when hardly any
    item changed; everything else takes Student's t over clusters.
    """
    a, b = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    if len(a) == 0:
        return Difference(None, None, None, 0)
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    if binary and clusters is None and weights is None:
        gained, lost = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
        low, high = tango(gained, lost, len(a), alpha)
        z = (gained - lost) / math.sqrt(gained + lost) if gained + lost else 0.0
        return Difference((gained - lost) / len(a), low, high, len(a), float(stats.norm.cdf(z)))
    interval = estimate(list(a - b), weights, clusters, share=False, alpha=alpha)
    return Difference(interval.value, interval.low, interval.high, interval.n, _p_worse(interval, clusters, alpha))


def tango(gained: int, lost: int, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Score interval of a difference of paired shares (Tango 1998, Statistics in Medicine 17:891).

    Args:
        gained, lost: items that only the candidate, or only the baseline, got right.
        n: all items.
    """
    z = float(stats.norm.ppf(1 - alpha / 2))
    observed = (gained - lost) / n

    def score(difference: float) -> float:
        spread = _tango_variance(gained, lost, n, difference)
        return (gained - lost - n * difference) / math.sqrt(max(spread, 1e-12))

    edge = 1 - 1e-9
    low = -1.0 if score(-edge) < z else float(optimize.brentq(lambda d: score(d) - z, -edge, observed, xtol=1e-6))
    high = 1.0 if score(edge) > -z else float(optimize.brentq(lambda d: score(d) + z, observed, edge, xtol=1e-6))
    return low, high


def wins(candidate: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """1 where the candidate scores higher, 0 where lower, 0.5 where equal; shape (items,)."""
    a, b = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    return [float(w) for w in np.where(np.abs(a - b) < 1e-9, 0.5, (a > b).astype(float))]


def win_rate(
    candidate: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    alpha: float = ALPHA,
) -> Estimate:
    """Share of items where the candidate scores higher; equal scores count half.

    The share is (1 + d) / 2 with d the share won minus the share lost, so its interval is Tango's for d: ties make
    it narrower, as they should. With clusters, Wilson's with the effective number of items.
    """
    scores = wins(candidate, baseline)
    if clusters is not None or not scores:
        return estimate(scores, None, clusters, share=True, alpha=alpha)
    low, high = tango(scores.count(1.0), scores.count(0.0), len(scores), alpha)
    return Estimate(sum(scores) / len(scores), (1 + low) / 2, (1 + high) / 2, len(scores))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects at family-wise level alpha."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


def _numbers(value: float | None, low: float | None, high: float | None) -> tuple[float, float, float]:
    if value is None or low is None or high is None:
        raise ValueError("nothing was measured")
    return value, low, high


def _p_worse(interval: Estimate, clusters: Sequence[Hashable] | None, alpha: float) -> float | None:
    """One-sided p-value of Student's t from the interval that it gave."""
    if interval.value is None or interval.high is None or math.isinf(interval.high):
        return None
    freedom = (interval.n if clusters is None else len(set(clusters))) - 1
    half = interval.high - interval.value
    if half <= 0:
        return 0.0 if interval.value < 0 else 1.0
    deviation = half / float(stats.t.ppf(1 - alpha / 2, freedom))
    return float(stats.t.cdf(interval.value / deviation, freedom))


def _codes(labels: Sequence[Hashable]) -> np.ndarray:
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels])


def _cluster_variance(x: np.ndarray, w: np.ndarray, groups: np.ndarray, mean: float) -> float:
    """Variance of a weighted mean: squared cluster totals of the residuals, as for a ratio estimator."""
    count = int(groups.max()) + 1
    if count < 2:
        return math.inf
    totals = np.bincount(groups, weights=w * (x - mean), minlength=count)
    return float(count / (count - 1) * (totals**2).sum() / w.sum() ** 2)


def _effective(mean: float, variance: float, clusters: int, items: int) -> float:
    """Number of independent items with the same variance, between one and the items there are."""
    spread = mean * (1 - mean)
    if spread <= 0 or variance <= 0:
        return float(clusters)
    return min(float(items), max(1.0, spread / variance))


def _tango_variance(gained: int, lost: int, n: int, difference: float) -> float:
    """n^2 times the variance of the difference, estimated under the hypothesis that it is `difference`."""
    a = 2.0 * n
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    p_lost = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    return n * (2 * p_lost + difference * (1 - difference))
