"""The interval over seeds: by hand, and that it holds as often as it says where prompts are fixed."""

from __future__ import annotations

import numpy as np
import pytest

from evals.statistics.draws import draws_interval

pytestmark = pytest.mark.unit


def test_by_hand() -> None:
    # variances 2 and 0.5 of two draws each: (1 + 0.25) / 4; Satterthwaite: 1.25^2 / (1 + 0.0625) = 1.47 degrees
    estimate = draws_interval([[0.0, 2.0], [1.0, 2.0]])
    assert estimate.value == pytest.approx(1.25)
    from scipy import stats

    half = stats.t.ppf(0.975, 1.25**2 / 1.0625) * (1.25 / 4) ** 0.5
    assert estimate.numbers() == pytest.approx((1.25, 1.25 - half, 1.25 + half))


def test_one_draw_has_no_interval_and_equal_draws_have_none_to_show() -> None:
    assert draws_interval([[1.0], [0.0]]).low is None
    assert draws_interval([[1.0, 1.0], [0.0, 0.0]]).numbers() == (0.5, 0.5, 0.5)
    assert draws_interval([]).value is None


@pytest.mark.parametrize("draws", [2, 4])
def test_it_holds_the_mean_of_fixed_prompts(draws: int) -> None:
    """Prompts of very different difficulty: an interval over prompts would be far too wide for this."""
    rng = np.random.default_rng(0)
    shares = rng.beta(0.5, 0.5, 120)
    held = 0
    for _ in range(1000):
        values = (rng.random((120, draws)) < shares[:, None]).astype(float)
        _, low, high = draws_interval(list(values)).numbers()
        held += low <= shares.mean() <= high
    assert 0.93 <= held / 1000 <= 0.97
