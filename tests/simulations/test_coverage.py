"""95 % intervals hold a known mean when prompts and answers are drawn anew; figures of `estimate`'s docstring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from evals.statistics import estimate
from tests.support.releases import Integers, cluster_sizes

pytestmark = pytest.mark.slow
DRAWS = 1000
HONESTY = {1: 381, 2: 55, 3: 17, 4: 2, 8: 2, 9: 2, 10: 2, 11: 1, 12: 2, 14: 1}
UTILITY_VALUES = (-0.7, -0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.0)
UTILITY_SHARES = (1, 2, 4, 7, 25, 67, 15, 18, 11, 9, 3, 338)


def coverage(
    draw_sizes: Callable[[np.random.Generator], Sequence[int] | Integers], mean: float, intraclass: float, seed: int
) -> float:
    """Share of draws whose interval holds the mean of a policy, printed too: each prompt has its own chance of a good
    answer, from a beta distribution whose spread is the correlation of answers to one prompt."""
    rng, inside = np.random.default_rng(seed), 0
    spread = (1 - intraclass) / intraclass
    for _ in range(DRAWS):
        size = draw_sizes(rng)
        chances = np.repeat(rng.beta(mean * spread, (1 - mean) * spread, len(size)), size)
        answers = (rng.random(len(chances)) < chances).astype(float).tolist()
        _, low, high = estimate(answers, clusters=np.repeat(np.arange(len(size)), size).tolist(), share=True).numbers()
        inside += low <= mean <= high
    print(f"{inside / DRAWS:.3f} hold the mean")
    return inside / DRAWS


def drawn(kind: str, clusters: int) -> Callable[[np.random.Generator], Integers]:
    return lambda rng: cluster_sizes(kind, clusters, rng)


@pytest.mark.parametrize(
    "clusters, mean, intraclass",
    [
        pytest.param(HONESTY, 0.438, 0.20, id="SFT: honest"),
        pytest.param(HONESTY, 0.515, 0.58, id="PPO-ptx: honest"),
        pytest.param({4: 134}, 0.746, 0.50, id="SFT: ordinary facts"),
        pytest.param({4: 134}, 0.718, 0.53, id="PPO-ptx: ordinary facts"),
        pytest.param({5: 90}, 0.200, 0.11, id="SFT: misconceptions"),
        pytest.param({5: 90}, 0.342, 0.15, id="PPO-ptx: misconceptions"),
    ],
)
def test_the_demos_clustered_items(clusters: dict[int, int], mean: float, intraclass: float) -> None:
    """Rates, clusters and correlations of the items of `make demo ARGS="--seed 1 --locked"` (1c92f5d)."""
    sizes = np.repeat(list(clusters), list(clusters.values()))
    assert 0.93 <= coverage(lambda _: sizes, mean, intraclass, seed=4) <= 0.97


@pytest.mark.parametrize("n, rate", [(500, 0.81), (170, 0.888), (170, 0.929), (170, 0.124)])
def test_the_demos_independent_items(n: int, rate: float) -> None:
    """Skills; finished on topic (SFT, PPO-ptx); toxic (SFT), of the same run."""
    assert 0.93 <= coverage(lambda _: [1] * n, rate, 0.5, seed=5) <= 0.97


def test_the_demos_utility() -> None:
    """Values of PPO-ptx's utility over 500 prompts, of the same run."""
    values, shares = np.array(UTILITY_VALUES), np.array(UTILITY_SHARES) / sum(UTILITY_SHARES)
    mean, rng, inside = float(values @ shares), np.random.default_rng(6), 0
    for _ in range(DRAWS):
        _, low, high = estimate(rng.choice(values, 500, p=shares).tolist(), share=False).numbers()
        inside += low <= mean <= high
    print(f"{inside / DRAWS:.3f} hold the mean")
    assert 0.93 <= inside / DRAWS <= 0.97


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("intraclass", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("sizes", ["ten", "skewed"])
def test_many_prompts_with_several_answers_each(mean: float, intraclass: float, sizes: str) -> None:
    # Answers that mostly agree, in clusters of very unequal sizes, are as few as 80 independent ones.
    least = 0.92 if sizes == "skewed" and intraclass == 0.7 else 0.93
    assert (
        least <= coverage(drawn(sizes, 200), mean, intraclass, seed=1) <= 0.97 + 0.012
    )  # skewed sizes err on the wide side


@pytest.mark.parametrize("mean", [0.5, 0.8])
@pytest.mark.parametrize("intraclass", [0.05, 0.3])
@pytest.mark.parametrize("sizes", ["ten", "uniform"])
@pytest.mark.parametrize("clusters", [5, 10, 20, 30])
def test_few_clusters(clusters: int, sizes: str, mean: float, intraclass: float) -> None:
    assert coverage(drawn(sizes, clusters), mean, intraclass, seed=2) >= 0.93


def test_rare_failures_in_few_unequal_clusters_are_the_limit() -> None:
    assert coverage(drawn("uniform", 30), 0.95, 0.3, seed=3) >= 0.9


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
