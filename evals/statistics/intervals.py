"""Means with intervals. Every interval is two-sided 95 % unless `alpha` says otherwise."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from evals.statistics.clusters import ClusterSums, cluster_sums, is_binary

ALPHA = 0.05
PRIOR_CLUSTERS = 1.0  # weight of the cautious variance of a share, in clusters


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: the mean; None when nothing was measured.
        low, high: ends of the interval; None where the data give none: nothing or one item was measured, all items
            are in one cluster, or values that are not 0/1 are all equal.
        n: number of measured items.
        missing: number of items whose measurement failed. They are in no mean.
        seed_half: half of the interval over seeds with the prompts fixed; None where no prompt was answered twice.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    missing: int = 0
    seed_half: float | None = None

    def numbers(self) -> tuple[float, float, float]:
        """Value, low and high.

        Raises:
            ValueError: nothing was measured, or too little for an interval.
        """
        if self.value is None or self.low is None or self.high is None:
            raise ValueError("nothing was measured, or too little for an interval")
        return self.value, self.low, self.high


def wilson(share: float, n: float, alpha: float = ALPHA, degrees: float = math.inf) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927).

    Args:
        share: observed, of 0/1 outcomes.
        n: number of independent items, or the effective number where a design makes it another.
        alpha: two-sided error.
        degrees: of freedom with which `n` was estimated; Student's quantile takes the place of the normal one.
    """
    z = quantile(1 - alpha / 2, degrees)
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
        values: one per item; None (or nan) counts as missing.
        weights: of the items, such as tokens of a document; equal when None.
        clusters: items of one cluster (one prompt, one labeler) are not independent; each its own when None.
        share: values lie in [0, 1]. 0/1 outcomes alone take Wilson's interval; with clusters, weights or other values
            in [0, 1], Wilson's with the effective number of items and Student's quantile (Korn and Graubard 1998).
            Anything else takes Student's t over clusters.
        alpha: two-sided error.

    Of 1,000 draws each (tests/simulations/test_coverage.py), 95 % intervals held the mean in 94.0 to 96.3 % at the
    rates, clusters and correlations of the demo's items, in 92.8 to 96.6 % with 200 clusters of up to 20 items, in 95.1
    to 100 % with 5 to 30 of them, in 90.7 % at a share of 95 % with 30 very unequal ones, and in 93 to 97 % with
    independent items.
    """
    measured = [i for i, v in enumerate(values) if v is not None and not math.isnan(v)]
    missing = len(values) - len(measured)
    if not measured:
        return Estimate(None, None, None, 0, missing)
    x = np.array([values[i] for i in measured], dtype=float)
    w = None if weights is None else np.array([weights[i] for i in measured], dtype=float)
    sums = cluster_sums(x, w, None if clusters is None else [clusters[i] for i in measured])
    if len(x) == 1 or sums.count == 1:
        low, high = None, None
    elif share:
        low, high = _share_interval(x, sums, alpha, independent=weights is None and sums.count == len(x))
    else:
        low, high = _student_interval(sums, alpha)
    return Estimate(sums.mean, low, high, len(x), missing)


def quantile(level: float, degrees: float) -> float:
    """Student's quantile; the normal one for infinite degrees of freedom."""
    return float(special.ndtri(level) if math.isinf(degrees) else stats.t.ppf(level, degrees))


def _share_interval(
    x: np.ndarray, sums: ClusterSums, alpha: float, independent: bool
) -> tuple[float, float] | tuple[None, None]:
    mean, binary = min(1.0, max(0.0, sums.mean)), is_binary(x)
    if binary and independent:
        return wilson(mean, len(x), alpha)
    variance = sums.variance or 0.0
    if variance <= 1e-18:
        # Equal 0/1 outcomes: as if each cluster were one item. Other equal values say nothing of their spread.
        return wilson(mean, sums.count, alpha, sums.degrees) if binary else (None, None)
    # Few clusters seldom hold one of the rare deviating ones: their variance is averaged with that of clusters of equal
    # items, the largest that there is.
    whole = mean * (1 - mean) / sums.count
    variance = (sums.count * variance + PRIOR_CLUSTERS * whole) / (sums.count + PRIOR_CLUSTERS)
    effective = max(1.0, mean * (1 - mean) / variance)
    return wilson(mean, min(effective, len(x)) if binary else effective, alpha, sums.degrees)


def _student_interval(sums: ClusterSums, alpha: float) -> tuple[float, float] | tuple[None, None]:
    variance = sums.variance or 0.0
    if math.sqrt(variance) <= 1e-12 * max(1.0, abs(sums.mean)):
        return None, None
    half = quantile(1 - alpha / 2, sums.degrees) * math.sqrt(variance)
    return sums.mean - half, sums.mean + half
