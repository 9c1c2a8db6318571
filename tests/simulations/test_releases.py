"""The whole gate on 1,000 simulated releases of up to eight required metrics, two of them clustered by passage.

Outcomes of each metric are drawn anew from its table of paired outcomes: unchanged, gained, lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from evals.decision import Row, Rule, decide
from evals.pairing import Pairing
from evals.verdict import ALPHA, whole_outcome
from tests.support.releases import cluster_sizes, differences

pytestmark = pytest.mark.slow
RELEASES = 1000
RULE = Rule("tax.cloze.acc", "cloze", margin=0.05)
PASSAGE = 4  # items per passage in clustered metrics, a tenth of which change as one
Changes = tuple[float, float]  # probabilities of a lost and of a gained item


def decision(changes: Changes, n: int, clustered: bool, rng: np.random.Generator) -> Row:
    """The gate's decision on one metric of one release."""
    sizes = np.full(n // PASSAGE, PASSAGE) if clustered else cluster_sizes("one", n, rng)
    d = differences(sizes, *changes, together=0.1, rng=rng)
    filler = rng.integers(0, 2, len(d))  # unchanged items are right or wrong on both sides
    a, b = (np.where(d == 0, filler, d == sign).astype(float).tolist() for sign in (1, -1))
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist() if clustered else None
    return decide(RULE, Pairing(a, b, clusters=labels), ALPHA)


def outcomes(changes: Sequence[Changes], n: int, releases: int = RELEASES) -> Counter[str]:
    """How often each outcome of the whole gate occurs; the first two metrics are clustered."""
    rng, counts = np.random.default_rng(11), Counter[str]()
    for _ in range(releases):
        rows = [decision(change, n, place < 2, rng) for place, change in enumerate(changes)]
        counts[whole_outcome(rows)] += 1
    return counts


def split(changed: float, drop: float) -> Changes:
    """Lost and gained shares with this drop; at least as many items change as are lost."""
    return max(drop, (changed + drop) / 2), max(0.0, (changed - drop) / 2)


@pytest.mark.parametrize("changed", [0.06, 0.10, 0.20])
@pytest.mark.parametrize("metrics", [1, 8])
@pytest.mark.parametrize("n", [120, 600])
def test_a_drop_of_the_margin_in_one_metric_passes_at_most_alpha(changed: float, metrics: int, n: int) -> None:
    changes = [split(changed, RULE.margin)] + [split(changed, 0.0)] * (metrics - 1)
    # 1,000 releases have a standard error of 0.0069.
    assert outcomes(changes, n)["PASS"] / RELEASES <= ALPHA + 2 * 0.0069


@pytest.mark.parametrize("changed, n", [(0.06, 520), (0.10, 740), (0.20, 1400)])
def test_eight_metrics_without_a_drop_pass_together(changed: float, n: int) -> None:
    assert outcomes([split(changed, 0.0)] * 8, n)["PASS"] / RELEASES >= 0.8


@pytest.mark.parametrize("changed, n", [(0.10, 740), (0.20, 1400)])
def test_three_points_beyond_the_margin_fail(changed: float, n: int) -> None:
    changes = [split(changed, RULE.margin + 0.03)] + [split(changed, 0.0)] * 7
    assert outcomes(changes, n)["FAIL"] / RELEASES >= 0.8
