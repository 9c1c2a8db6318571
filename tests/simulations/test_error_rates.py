"""How often a drop of the margin passes the bound on clustered differences; figures of `evals.statistics.paired`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evals.statistics import paired_difference, tango
from tests.support.releases import cluster_sizes, differences

pytestmark = pytest.mark.slow
DRAWS = 2000


def share_passed(clusters: int, sizes: str, lost: float, gained: float, together: float) -> float:
    """Share of draws whose one-sided 5 % bound excludes the drop that is there; printed too."""
    rng, passes = np.random.default_rng(7), 0
    for _ in range(DRAWS):
        size = cluster_sizes(sizes, clusters, rng)
        d = differences(size, lost, gained, together, rng)
        labels = np.repeat(np.arange(clusters), size).tolist()
        if sizes == "one":  # halves, so that the bound for clusters is tested instead of Tango's
            difference = paired_difference((d / 2 + 0.5).tolist(), [0.5] * len(d), labels, alpha=0.1)
            passes += difference.numbers()[1] > (gained - lost) / 2
        else:
            difference = paired_difference((d > 0).astype(float).tolist(), (d < 0).astype(float).tolist(), labels,
                                           alpha=0.1)  # fmt: skip
            passes += difference.numbers()[1] > gained - lost
    print(
        f"{passes / DRAWS:.4f} passed: {clusters} clusters ({sizes}), {lost} lost, {gained} gained, {together} together"
    )
    return passes / DRAWS


@pytest.mark.parametrize("lost, gained", [(0.06, 0.01), (0.08, 0.03), (0.15, 0.10), (0.03, 0.01)])
@pytest.mark.parametrize("together", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sizes", ["one", "ten", "uniform", "skewed", "few_large"])
@pytest.mark.parametrize("clusters", [20, 60, 300])
def test_a_drop_of_the_margin(clusters: int, sizes: str, lost: float, gained: float, together: float) -> None:
    if sizes == "one" and together:
        pytest.skip("a cluster of one item is alike anyway")
    assert share_passed(clusters, sizes, lost, gained, together) <= 0.05


@pytest.mark.parametrize("lost", [0.02, 0.05, 0.10])
@pytest.mark.parametrize("sizes", ["one", "skewed", "few_large"])
@pytest.mark.parametrize("clusters", [20, 60, 100, 200, 300])
def test_nothing_gained(clusters: int, sizes: str, lost: float) -> None:
    assert share_passed(clusters, sizes, lost, 0.0, 1.0) <= 0.05


@pytest.mark.parametrize("lost", [0.02, 0.05, 0.10])
@pytest.mark.parametrize("clusters", [20, 60, 100, 200, 300])
def test_nothing_gained_in_equal_clusters_is_the_limit(clusters: int, lost: float) -> None:
    """Few values are possible then, and a score test passes them somewhat above alpha; so does Tango's. Computed
    exactly: whole clusters of ten are lost."""
    labels, kept = np.repeat(np.arange(clusters), 10).tolist(), [1.0] * (10 * clusters)
    passes = 0.0
    for gone in range(clusters + 1):
        chance = float(stats.binom.pmf(gone, clusters, lost))
        if chance > 1e-6:
            candidate = [0.0] * (10 * gone) + kept[10 * gone :]
            low = paired_difference(candidate, kept, labels, alpha=0.1).low
            passes += chance * (low is not None and low > -lost)
    print(f"{passes:.4f} passed: {clusters} clusters, {lost} lost")
    assert passes <= 0.065


@pytest.mark.parametrize("n, lost, gained", [(300, 0.02, 0.0), (100, 0.1, 0.0), (300, 0.06, 0.01), (200, 0.15, 0.1)])
def test_tangos_bound(n: int, lost: float, gained: float) -> None:
    counts = np.random.default_rng(1).multinomial(n, [gained, lost, 1 - lost - gained], size=DRAWS)
    passes = np.mean([tango(int(g), int(k), n, 0.1)[0] > gained - lost for g, k, _ in counts])
    assert passes <= (0.07 if gained == 0 else 0.06)
