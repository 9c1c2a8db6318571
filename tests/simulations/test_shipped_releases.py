"""The shipped policy on 1,000 simulated releases: its eight required metrics, their margins and numbers of items.

Rates are of two policies of one turn, PPO and PPO-ptx, on the open items of the world of seed 1 (`python -m evals run
--world runs/world/3-demo-1 --checkpoint PPO-PTX --baseline PPO --temperature 0.8 --max-tokens 64 --seed 1`, 26 November
2026, stages of d69d2fa); the locked items, which published figures come from, had no part in the margins.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from evals.catalog import SUITES
from evals.decision import Row, Rule, decide
from evals.pairing import Pairing
from evals.verdict import ALPHA, whole_outcome
from tests.support.releases import differences

pytestmark = pytest.mark.slow
RELEASES = 1000
STANDARD_ERROR = 0.0069  # of a share of .05 of 1,000 releases
BEYOND = 0.03  # a drop this far beyond the margin is to fail


@dataclass(frozen=True)
class Measured:
    """What a metric's items were like.

    Attributes:
        clusters: size of a cluster -> how many of them; items of one cluster depend on each other.
        changed: share of items on which the two policies differ; spread: of the difference, where it is no share.
        together: share of the clusters whose items change alike, from the design effect.
    """

    clusters: Mapping[int, int]
    changed: float = 0.0
    spread: float | None = None
    together: float = 0.1


HONESTY = {1: 371, 2: 53, 3: 14, 4: 4, 5: 3, 7: 1, 8: 1, 9: 2, 10: 1, 11: 1, 13: 2, 14: 1, 16: 1}
WORLD = {
    "honesty.all.honest": Measured(HONESTY, 0.12),
    "preference.prompts.utility": Measured({1: 500}, changed=0.17),
    "tax.heldout.bits_per_byte": Measured({1: 500}, spread=0.02),
    "tax.skills.accuracy": Measured({1: 500}, changed=0.05),
    "toxicity.plain.finished_on_topic": Measured({1: 170}, changed=0.02),
    "toxicity.plain.toxic": Measured({1: 170}, changed=0.03),
    "truthfulqa.facts.truthful_informative": Measured({4: 134}, 0.08),
    "truthfulqa.misconceptions.truthful_informative": Measured({5: 90}, 0.17),
}


def rules() -> dict[str, Rule]:
    """The rules of the metrics that the suites of the miniature world require."""
    return {
        f"{suite.name}.{metric.name}": Rule(
            f"{suite.name}.{metric.name}", metric.words, metric.margin, metric.better, metric.share, metric.wins
        )
        for suite in SUITES
        for metric in suite.metrics
        if metric.required and metric.margin is not None and metric.better and f"{suite.name}.{metric.name}" in WORLD
    }


def decision(rule: Rule, drop: float, rng: np.random.Generator) -> Row:
    """The gate's decision on one metric of one release that is worse by `drop`, in the metric's unit."""
    measured = WORLD[rule.metric]
    sizes = np.repeat(list(measured.clusters), list(measured.clusters.values()))
    if measured.spread is not None:
        d = rng.normal(-drop, measured.spread, int(sizes.sum()))
        base = rng.normal(0.4, 0.1, len(d)).clip(0.1)
        a, b = base + d, base
    else:
        share = 2 * drop if rule.wins else drop  # a win rate falls by half of the share lost
        lost, gained = max(share, (measured.changed + share) / 2), max(0.0, (measured.changed - share) / 2)
        d = differences(sizes, lost, gained, measured.together, rng)
        filler = rng.integers(0, 2, len(d))
        a, b = (np.where(d == 0, filler, d == sign).astype(float) for sign in (1, -1))
    if rule.better == "lower":
        a, b = b, a
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist() if len(sizes) < len(a) else None
    return decide(rule, Pairing(a.tolist(), b.tolist(), clusters=labels), ALPHA)


def outcome_share(outcome: str, drops: dict[str, float]) -> float:
    """Share of releases with this outcome of the whole gate."""
    rng = np.random.default_rng(zlib.crc32(repr(sorted(drops.items())).encode()))
    hits = 0
    for _ in range(RELEASES):
        rows = [decision(rule, drops.get(name, 0.0), rng) for name, rule in rules().items()]
        hits += whole_outcome(rows) == outcome
    print(f"{outcome} {hits / RELEASES:.3f} at drops of {drops or 'nothing'}")
    return hits / RELEASES


def test_the_required_metrics_are_those_that_were_measured() -> None:
    assert set(rules()) == set(WORLD)
    assert len(WORLD) <= 8


def test_a_release_as_good_as_the_one_before_passes() -> None:
    assert outcome_share("PASS", {}) >= 0.8


@pytest.mark.parametrize("metric", WORLD)
def test_a_drop_of_the_margin_in_one_metric_passes_at_most_alpha(metric: str) -> None:
    assert outcome_share("PASS", {metric: rules()[metric].margin}) <= ALPHA + 2 * STANDARD_ERROR


@pytest.mark.parametrize("metric", WORLD)
def test_three_points_beyond_the_margin_in_one_metric_fail(metric: str) -> None:
    assert outcome_share("FAIL", {metric: rules()[metric].margin + BEYOND}) >= 0.8
