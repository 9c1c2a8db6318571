"""Intervals of means over clusters, for figures that a stage reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

DRAWS = 10_000
LEVEL = 0.95


class Interval(TypedDict):
    """A mean with its percentile interval at 95 %, and the number of clusters behind it."""

    value: float
    low: float
    high: float
    clusters: int


def bootstrap(totals: Sequence[float], counts: Sequence[float], seed: int = 0) -> Interval:
    """The mean sum(totals) / sum(counts), with an interval from drawing whole clusters with replacement.

    Args:
        totals: sum of the values of each cluster, such as all pairs of one prompt.
        counts: number of values of each cluster, above 0.
        seed: of the draws.

    Raises:
        ValueError: there is no cluster, or the lists differ in length.
    """
    if not totals or len(totals) != len(counts):
        raise ValueError("a mean needs at least one cluster, and as many totals as counts")
    sums, sizes = np.asarray(totals, dtype=float), np.asarray(counts, dtype=float)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(DRAWS // 1000):  # in parts: 10,000 draws of thousands of clusters take much memory at once
        rows = rng.integers(0, len(sums), size=(1000, len(sums)))
        means.append(sums[rows].sum(1) / sizes[rows].sum(1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {
        "value": float(sums.sum() / sizes.sum()), "low": float(low), "high": float(high), "clusters": len(sums)
    }  # fmt: skip
