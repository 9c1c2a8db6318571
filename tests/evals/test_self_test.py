"""The self-test holds for the gate, and notices a gate that lets too many or none through."""

from __future__ import annotations

import numpy as np
import pytest

from evals import self_test as module
from evals.decision import Rule
from evals.measured import Measured
from evals.policy import Policy
from evals.self_test import self_test
from evals.statistics import Difference
from tests.support.measured import items, side
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
RELEASES = 150


def two(seed: int = 0, count: int = 400, size: int = 1, **fields: object) -> tuple[Measured, Measured]:
    """Two different checkpoints, of which one is truly better: swapping hides that."""
    rng = np.random.default_rng(seed)
    base = rng.random(count) < 0.6
    other = np.where(
        np.repeat(rng.random(count // size) < (0.25 if size == 1 else 0.5), size), rng.random(count) < 0.9, base
    )
    cluster = (lambda i: f"passage {i // size}") if size > 1 else None
    metric = "tax.cloze.accuracy"
    return (
        side(items(other.astype(float).tolist(), metric, cluster), **fields),  # type: ignore[arg-type]
        side(items(base.astype(float).tolist(), metric, cluster), "baseline", **fields),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("wins", [False, True])
def test_the_gate_keeps_alpha_on_swapped_outcomes(size: int, wins: bool) -> None:
    (row,) = self_test(*two(size=size, wins=wins), Policy(), 0.05, RELEASES)
    assert row.state == "holds"
    assert row.passed is not None
    assert 0 < row.passed <= 0.11
    assert row.changed >= 20


def test_unbounded_scores_keep_alpha() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(3.0, 0.5, 300)
    sides = [
        side(items(v.tolist(), "tax.text.bits", weight=lambda i: 10.0 + i % 50), n, better="lower", share=False)
        for n, v in (("candidate", base + rng.normal(0.05, 0.1, 300)), ("baseline", base))
    ]
    (row,) = self_test(sides[0], sides[1], Policy(), 0.05, RELEASES)
    assert row.state == "holds"
    assert row.passed is not None
    assert row.passed > 0


@pytest.mark.parametrize("shift", [0.03, -1.0])
def test_a_gate_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch, shift: float) -> None:
    """Bounds planted too high let too many pass; too low, none."""
    genuine = module.compare

    def planted(rule: Rule, *arguments: object) -> Difference:
        d = genuine(rule, *arguments)  # type: ignore[arg-type]
        return Difference(d.value, (d.low or 0.0) + shift, d.high, d.n, d.p_worse, d.clusters)

    monkeypatch.setattr(module, "compare", planted)
    (row,) = self_test(*two(count=200), Policy(), 0.05, 1000)
    assert row.state == "off"


def test_few_changes_are_untested() -> None:
    base = [float(i % 2) for i in range(200)]
    sides = side(items([1.0, 1.0, 1.0, *base[3:]])), side(items(base), "baseline")
    (row,) = self_test(*sides, Policy(), 0.05, RELEASES)
    assert (row.state, row.passed, row.changed) == ("untested", None, 2)


def test_nothing_to_test_is_an_error() -> None:
    with pytest.raises(UserError, match="both sides measured"):
        self_test(side(items([None] * 30)), side(items([1.0] * 30), "baseline"), Policy(), 0.05, RELEASES)
