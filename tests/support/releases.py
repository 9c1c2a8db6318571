"""Simulated releases: paired outcomes of a candidate and a baseline, in clusters, with a known true difference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
LARGEST = 20
SKEWED = 1 / np.arange(1, LARGEST + 1) ** 1.2


def cluster_sizes(kind: str, clusters: int, rng: np.random.Generator) -> Integers:
    """Numbers of items per cluster; shape (clusters,).

    Args:
        kind: `one`, `ten`, `uniform` (1 to 20), `skewed` (1 to 20, mostly small), or `few_large` (a twentieth of the
            clusters has 20 items, the others one).
    """
    if kind == "uniform":
        return rng.integers(1, LARGEST + 1, clusters)
    if kind == "skewed":
        return rng.choice(np.arange(1, LARGEST + 1), p=SKEWED / SKEWED.sum(), size=clusters)
    sizes = np.full(clusters, 10 if kind == "ten" else 1)
    if kind == "few_large":
        sizes[: max(1, clusters // 20)] = LARGEST
    return sizes


def differences(
    sizes: Sequence[int] | Integers, lost: float, gained: float, together: float, rng: np.random.Generator
) -> Integers:
    """Candidate minus baseline of 0/1 outcomes: -1, 0 or 1 per item, items of a cluster side by side.

    Args:
        lost, gained: probabilities of -1 and 1; the true difference is gained - lost.
        together: share of the clusters whose items all change alike; in the others they are independent.
    """
    chances = [lost, 1 - lost - gained, gained]
    items = rng.choice([-1, 0, 1], p=chances, size=int(np.sum(sizes)))
    shared = np.repeat(rng.choice([-1, 0, 1], p=chances, size=len(sizes)), sizes)
    whole = np.repeat(rng.random(len(sizes)) < together, sizes)
    changes: Integers = np.where(whole, shared, items)
    return changes
