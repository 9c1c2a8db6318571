"""Gradients of parts on threads are those of the whole, to the bit in every repetition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from training.models import hardware, parallel

pytestmark = pytest.mark.unit


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_gradients_and_loss_are_the_sums_over_rows(threads: int) -> None:
    """loss = sum over rows of weight * row: its gradient is the sum of the rows, 1 + 2 + 3 + 4."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(2.0)
    unused = nn.Parameter(torch.zeros(1))
    model.register_parameter("unused", unused)

    def loss(rows: Sequence[float]) -> Tensor:
        return sum(model(torch.tensor([row])).sum() for row in rows)

    assert parallel.add_gradients(model, [1.0, 2.0, 3.0, 4.0], loss) == 20.0
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 10.0
    assert unused.grad is None
    assert parallel.add_gradients(model, [5.0], loss) == 10.0
    assert model.weight.grad.item() == 15.0  # added to what was there


def test_the_same_bits_every_time(threads: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    rows = list(torch.randn(50, 32))
    gradients = []
    for _ in range(3):
        model.zero_grad(set_to_none=True)
        parallel.add_gradients(model, rows, lambda part: model(torch.stack(list(part))).pow(2).sum())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for again in gradients[1:] for a, b in zip(gradients[0], again, strict=True))
    whole = model(torch.stack(rows)).pow(2).sum()
    for expected, found in zip(torch.autograd.grad(whole, list(model.parameters())), gradients[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_parts_keep_the_callers_precision_and_use_one_thread_each(threads: int) -> None:
    model = nn.Linear(1, 1)
    seen: list[tuple[bool, int]] = []

    def loss(rows: Sequence[float]) -> Tensor:
        seen.append((hardware._full_precision.get(), torch.get_num_threads()))
        return model(torch.tensor([rows]).T).sum()

    with hardware.full_precision():
        parallel.add_gradients(model, [1.0, 2.0, 3.0], loss)
    assert seen == [(True, 1)] * threads


def test_an_error_in_a_part_is_raised(threads: int) -> None:
    def broken(rows: Sequence[float]) -> Tensor:
        raise ValueError("no such row")

    with pytest.raises(ValueError, match="no such row"):
        parallel.add_gradients(nn.Linear(1, 1), [1.0, 2.0], broken)
