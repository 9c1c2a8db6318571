"""Sums over clusters: the variance of a weighted mean when items of one cluster are not independent."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClusterSums:
    """Weighted sums of values over clusters.

    Attributes:
        totals: sum of weight times value; shape (clusters,).
        weights: sum of weights; shape (clusters,).
    """

    totals: Floats
    weights: Floats

    @property
    def count(self) -> int:
        return len(self.totals)

    @property
    def mean(self) -> float:
        return float(self.totals.sum() / self.weights.sum())

    @property
    def variance(self) -> float | None:
        """Of the mean, by the jackknife that leaves out one cluster (CR3 of Bell and McCaffrey 2002); None for one
        cluster. Unlike CR1 it is not too small where few clusters hold most of the weight."""
        if self.count < 2:
            return None
        whole = self.weights.sum()
        residuals = (self.totals - self.mean * self.weights) / (1 - self.weights / whole)
        return float((self.count - 1) / self.count * (residuals**2).sum() / whole**2)

    @property
    def degrees(self) -> float:
        """Degrees of freedom of Student's t: clusters - 1 for equal clusters, fewer where sizes differ, since a few
        large ones then carry the variance (Carter, Schnepel and Steigerwald 2017, items of a cluster alike)."""
        squares = self.weights**2
        return max(1.0, float(squares.sum() ** 2 / (squares**2).sum()) - 1)

    @property
    def typical_weight(self) -> float:
        """Weight of the cluster that a typical share of the variance comes from; the common one if all are equal."""
        return float((self.weights**3).sum() / (self.weights**2).sum())

    def with_cluster(self, value: float) -> ClusterSums:
        """The same and one more cluster of typical weight whose items all have this value."""
        weight = self.typical_weight
        return ClusterSums(np.append(self.totals, value * weight), np.append(self.weights, weight))


def cluster_sums(values: Floats, weights: Floats | None, clusters: Sequence[Hashable] | None) -> ClusterSums:
    """Sum values over clusters.

    Args:
        values: shape (items,).
        weights: shape (items,), positive; all 1 when None.
        clusters: one label per item; each item its own cluster when None.
    """
    scale = np.ones(len(values)) if weights is None else weights
    if clusters is None:
        return ClusterSums(scale * values, scale)
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(label, len(numbers)) for label in clusters])
    totals, sizes = (np.bincount(codes, weights=w, minlength=len(numbers)) for w in (scale * values, scale))
    return ClusterSums(totals.astype(float), sizes.astype(float))


def is_binary(values: Floats) -> bool:
    """Whether all values are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())
