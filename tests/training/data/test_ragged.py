"""Rows as views into one array: chosen, cut and packed without copies."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.ragged import Packed, Ragged

pytestmark = pytest.mark.unit
ROWS = [[7], [], [8, 9, 10, 11, 12], [13, 14]]


def ragged() -> Ragged:
    return Ragged(
        np.array([value for row in ROWS for value in row], dtype=np.int32),
        np.array([len(row) for row in ROWS], dtype=np.int32),
    )


def lists(rows: Ragged | Packed) -> list[list[int]]:
    return [row.tolist() for row in rows]


def test_rows_are_views_of_the_values() -> None:
    rows = ragged()
    assert len(rows) == 4
    assert lists(rows) == ROWS
    assert rows[2].base is rows.values


def test_rows_are_taken_in_any_order_and_again() -> None:
    taken = ragged().take([3, 2, 0])
    assert lists(taken) == [[13, 14], [8, 9, 10, 11, 12], [7]]
    assert lists(taken.take(np.array([1, 1]))) == [[8, 9, 10, 11, 12]] * 2
    assert taken.lengths.tolist() == [2, 5, 1]


def test_long_rows_are_cut_and_single_values_left_out() -> None:
    assert lists(ragged().cut(2)) == [[8, 9], [10, 11], [13, 14]]  # of 7, and of 12, nothing could be learned
    assert lists(ragged().take([2, 3]).cut(3)) == [[8, 9, 10], [11, 12], [13, 14]]
    assert lists(ragged().cut(9)) == [[8, 9, 10, 11, 12], [13, 14]]


@pytest.mark.parametrize(
    "size, expected",
    [
        (3, [[7, 8, 9], [10, 11, 12], [13, 14]]),
        (4, [[7, 8, 9, 10], [11, 12, 13, 14]]),
        (7, [[7, 8, 9, 10, 11, 12, 13]]),  # a row of 14 alone teaches nothing
        (100, [[7, 8, 9, 10, 11, 12, 13, 14]]),
    ],
)
def test_packed_rows_follow_each_other(size: int, expected: list[list[int]]) -> None:
    packed = Packed(ragged(), size)
    assert lists(packed) == expected
    assert packed.lengths.tolist() == [len(row) for row in expected]


def test_packing_nothing_gives_nothing() -> None:
    assert len(Packed(ragged().take([]), 4)) == 0
