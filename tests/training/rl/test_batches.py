"""Batches cover every row, and depend on the seed alone."""

from __future__ import annotations

import pytest

from training.rl import batches

pytestmark = pytest.mark.unit
LENGTHS = [3 + (i * 7) % 20 for i in range(101)]


def test_a_pass_holds_every_row_once() -> None:
    for plan in (batches.epoch_batches(LENGTHS, 8, 0), batches.token_batches(LENGTHS, 60, 0)):
        assert sorted(row for batch in plan for row in batch) == list(range(101))
    assert sorted(map(len, batches.epoch_batches(LENGTHS, 8, 0)))[:2] == [5, 8]


def test_batches_by_tokens_keep_to_their_budget_padding_included() -> None:
    for batch in batches.token_batches(LENGTHS, 60, 0):
        assert max(LENGTHS[i] for i in batch) * len(batch) <= 60


def test_a_batch_in_passes_keeps_to_their_budget() -> None:
    rows = [f"row {number}" for number in range(20)]
    parts = batches.passes(rows, LENGTHS[:20], 50)
    lengths = dict(zip(rows, LENGTHS, strict=False))
    assert sorted(row for part in parts for row in part) == sorted(rows)
    assert all(len(part) * max(lengths[row] for row in part) <= 50 for part in parts)
    assert len(parts) < 10
    assert batches.passes(["long", "short"], [90, 5], 50) == [["short"], ["long"]]  # one row goes whole
    assert batches.passes([], [], 50) == []


def test_order_depends_on_seed_and_pass() -> None:
    assert batches.epoch_batches(LENGTHS, 8, 0, 1) == batches.epoch_batches(LENGTHS, 8, 0, 1)
    assert batches.epoch_batches(LENGTHS, 8, 0, 1) != batches.epoch_batches(LENGTHS, 8, 0, 2)


def test_stretches_follow_each_other_through_whole_passes() -> None:
    rows = [row for number in range(10) for row in batches.cycle_batch(7, 3, number, "x")]
    for one_pass in range(4):
        assert sorted(rows[one_pass * 7 : one_pass * 7 + 7]) == list(range(7))
    assert len(batches.cycle_batch(2, 5, 0)) == 5
