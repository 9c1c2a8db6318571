"""Bootstrap intervals over clusters, against what the normal distribution says."""

from __future__ import annotations

import pytest

from training.stages.intervals import bootstrap

pytestmark = pytest.mark.unit


def test_a_share_has_the_interval_of_the_normal_distribution() -> None:
    interval = bootstrap([1.0] * 60 + [0.0] * 40, [1.0] * 100)
    assert interval["value"] == pytest.approx(0.6)
    spread = 1.96 * (0.6 * 0.4 / 100) ** 0.5
    assert interval["low"] == pytest.approx(0.6 - spread, abs=0.015)
    assert interval["high"] == pytest.approx(0.6 + spread, abs=0.015)
    assert interval["clusters"] == 100


def test_values_that_go_together_tell_less() -> None:
    alone = bootstrap([1.0] * 50 + [0.0] * 50, [1.0] * 100)
    together = bootstrap([10.0] * 5 + [0.0] * 5, [10.0] * 10)
    assert together["value"] == alone["value"] == 0.5
    ratio = (together["high"] - together["low"]) / (alone["high"] - alone["low"])
    assert ratio == pytest.approx(10**0.5, rel=0.15)


def test_larger_clusters_weigh_more() -> None:
    assert bootstrap([3.0, 0.0], [3.0, 1.0])["value"] == 0.75


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one cluster"):
        bootstrap([], [])
