"""The moving average of weights."""

from __future__ import annotations

import pytest
import torch

from training.rl.ema import Ema, decay_for

pytestmark = pytest.mark.unit


def test_average_by_hand() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(model, decay=0.5)
    for weight in (4.0, 8.0, 2.0):
        model.weight.data.fill_(weight)
        ema.update(model)
    # 0.5 * 2 + 0.25 * 8 + 0.125 * 4 = 3.5, over 1 - 0.125.
    ema.copy_to(model)
    assert model.weight.item() == pytest.approx(4.0)


def test_after_one_step_it_is_the_weights() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(model, decay=0.992)
    model.weight.data.fill_(3.0)
    ema.update(model)
    ema.copy_to(model)
    assert model.weight.item() == pytest.approx(3.0)


def test_state_round_trip() -> None:
    model = torch.nn.Linear(2, 2)
    ema, other = Ema(model, 0.9), Ema(model, 0.9)
    ema.update(model)
    other.load_state_dict(ema.state_dict())
    assert other.steps == 1
    assert all(torch.equal(other.sums[name], value) for name, value in ema.sums.items())


def test_the_horizon_is_at_most_a_tenth_of_the_run() -> None:
    assert decay_for(0.992, 100_000) == 0.992
    assert decay_for(0.992, 128) == pytest.approx(1 - 10 / 128)
    assert decay_for(0.992, 4) == 0.0
