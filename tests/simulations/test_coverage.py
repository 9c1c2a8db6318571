"""95 % intervals hold a known mean when prompts and answers are drawn anew; figures of `estimate`'s docstring."""

from __future__ import annotations

import numpy as np
import pytest

from evals.statistics import estimate
from tests.support.releases import cluster_sizes

pytestmark = pytest.mark.slow
DRAWS = 1000


def coverage(clusters: int, sizes: str, mean: float, intraclass: float, seed: int) -> float:
    """Share of draws whose interval holds the mean of a policy: each prompt has its own chance of a good answer, from
    a beta distribution whose spread is the correlation of answers to one prompt."""
    rng, inside = np.random.default_rng(seed), 0
    spread = (1 - intraclass) / intraclass
    for _ in range(DRAWS):
        size = cluster_sizes(sizes, clusters, rng)
        chances = np.repeat(rng.beta(mean * spread, (1 - mean) * spread, clusters), size)
        answers = (rng.random(len(chances)) < chances).astype(float).tolist()
        _, low, high = estimate(answers, clusters=np.repeat(np.arange(clusters), size).tolist(), share=True).numbers()
        inside += low <= mean <= high
    return inside / DRAWS


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("intraclass", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("sizes", ["ten", "skewed"])
def test_many_prompts_with_several_answers_each(mean: float, intraclass: float, sizes: str) -> None:
    # Answers that mostly agree, in clusters of very unequal sizes, are as few as 80 independent ones.
    least = 0.92 if sizes == "skewed" and intraclass == 0.7 else 0.93
    assert least <= coverage(200, sizes, mean, intraclass, seed=1) <= 0.97 + 0.012  # skewed sizes err on the wide side


@pytest.mark.parametrize("mean", [0.5, 0.8])
@pytest.mark.parametrize("intraclass", [0.05, 0.3])
@pytest.mark.parametrize("sizes", ["ten", "uniform"])
@pytest.mark.parametrize("clusters", [5, 10, 20, 30])
def test_few_clusters(clusters: int, sizes: str, mean: float, intraclass: float) -> None:
    assert coverage(clusters, sizes, mean, intraclass, seed=2) >= 0.93


def test_rare_failures_in_few_unequal_clusters_are_the_limit() -> None:
    assert coverage(30, "uniform", 0.95, 0.3, seed=3) >= 0.9


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_independent_outcomes(n: int) -> None:
    rng, inside = np.random.default_rng(n), 0
    for _ in range(DRAWS):
        _, low, high = estimate((rng.random(n) < 0.7).astype(float).tolist(), share=True).numbers()
        inside += low <= 0.7 <= high
    assert 0.93 <= inside / DRAWS <= 0.97


@pytest.mark.parametrize("n", [12, 50, 500])
def test_unbounded_scores(n: int) -> None:
    rng, inside = np.random.default_rng(n), 0
    for _ in range(DRAWS):
        _, low, high = estimate(rng.normal(2.0, 1.0, n).tolist(), share=False).numbers()
        inside += low <= 2.0 <= high
    assert 0.93 <= inside / DRAWS <= 0.97
