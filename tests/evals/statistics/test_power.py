"""Power against enumeration and simulation."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest

from evals.statistics import items_needed, power, tango
from evals.statistics.power import __doc__ as documented
from evals.statistics.power import margin_variance, table

pytestmark = pytest.mark.unit


def test_power_is_the_sum_over_all_tables() -> None:
    # n = 30, 10 % gained and 10 % lost: every (gained, lost) with its multinomial probability.
    n, share, total = 30, 0.1, 0.0
    for gained, lost in product(range(n + 1), repeat=2):
        if gained + lost <= n and tango(gained, lost, n, 0.1)[0] > -0.2:
            ways = comb(n, gained) * comb(n - gained, lost)
            total += ways * share ** (gained + lost) * (1 - 2 * share) ** (n - gained - lost)
    assert power(n, 2 * share, 0.2) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("n", [60, 200, 800])
@pytest.mark.parametrize("discordance", [0.06, 0.12, 0.25])
def test_the_chance_to_pass_at_a_drop_of_the_margin_is_about_alpha(n: int, discordance: float) -> None:
    assert power(n, discordance, 0.05, drop=0.05) <= 0.056  # a score test: near alpha, not below it everywhere


@pytest.mark.parametrize("discordance, margin", [(0.05, 0.05), (0.1, 0.05), (0.2, 0.05), (0.1, 0.02), (0.3, 0.03)])
def test_items_needed_have_the_power_that_they_are_needed_for(discordance: float, margin: float) -> None:
    needed = items_needed(discordance, margin, least_variance=margin_variance(margin, discordance))
    assert needed is not None
    # Tango's variance grows with each lost item, which the formula leaves out: a few points more than 80 %.
    assert 0.79 <= power(needed, discordance, margin) <= 0.85


def test_items_needed_without_any_change_are_those_of_tango() -> None:
    # Tango's bound for no change in n items is -z^2 / (n + z^2) with z^2 = 2.7055: n > z^2 (1 - m) / m = 51.4.
    needed = items_needed(0.0, 0.05, least_variance=margin_variance(0.05))
    assert needed == 52
    assert tango(0, 0, 52, 0.1)[0] > -0.05 > tango(0, 0, 51, 0.1)[0]


def test_a_margin_of_zero_needs_more_than_any_number() -> None:
    assert items_needed(0.1, 0.0) is None


def test_a_drop_needs_changed_items() -> None:
    with pytest.raises(ValueError, match="at least as many"):
        power(100, 0.02, 0.05, drop=0.05)


def test_clusters_need_more_items_by_their_design_effect() -> None:
    assert items_needed(0.1 * 4, 0.05) == pytest.approx(4 * (items_needed(0.1, 0.05) or 0), rel=0.01)


def test_the_documented_table_is_the_computed_one() -> None:
    assert documented is not None
    assert table() in documented


def test_eight_metrics_pass_together_where_the_documentation_says() -> None:
    for n, discordance in ((550, 0.1), (1050, 0.2), (1550, 0.3)):
        assert power(n, discordance, 0.05) ** 8 >= 0.8
        assert power(round(0.9 * n), discordance, 0.05) ** 8 < 0.8


def test_power_agrees_with_simulated_releases() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(400, [0.06, 0.06, 0.88], size=800)
    passes = np.mean([tango(int(g), int(lost), 400, 0.1)[0] > -0.05 for g, lost, _ in counts])
    assert power(400, 0.12, 0.05) == pytest.approx(passes, abs=0.04)
