"""Rows of different lengths as views into one flat array, such as a memory-mapped one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np

T = TypeVar("T")


class Views(Sequence[T]):
    """A sequence whose elements are built on access; a slice is a list of them."""

    @abstractmethod
    def row(self, number: int) -> T:
        """One element, by its number from 0."""

    @overload
    def __getitem__(self, number: int) -> T: ...

    @overload
    def __getitem__(self, number: slice) -> list[T]: ...

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self.row(i) for i in range(*number.indices(len(self)))]
        return self.row(number)

    def __iter__(self) -> Iterator[T]:
        return (self.row(number) for number in range(len(self)))


class Ragged(Views[np.ndarray]):
    """Rows of different lengths.

    Args:
        values: what the rows are views into, one-dimensional.
        lengths: of each row, shape (rows,).
        starts: place of each row's first value; left out, the rows follow each other.
    """

    def __init__(self, values: np.ndarray, lengths: np.ndarray, starts: np.ndarray | None = None) -> None:
        self.values = values
        self.lengths = lengths
        self.starts = np.cumsum(lengths, dtype=np.int64) - lengths if starts is None else starts

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, number: int) -> np.ndarray:
        start = int(self.starts[number])
        return self.values[start : start + int(self.lengths[number])]

    def take(self, rows: np.ndarray | Sequence[int]) -> Ragged:
        """These rows in this order, still as views into the same array."""
        numbers = np.asarray(rows, dtype=np.int64)
        return Ragged(self.values, self.lengths[numbers], self.starts[numbers])

    def joined(self) -> np.ndarray:
        """All rows one after the other, as a copy."""
        lengths = self.lengths.astype(np.int64)
        firsts = np.cumsum(lengths) - lengths
        places = np.repeat(self.starts - firsts, lengths) + np.arange(int(lengths.sum()))
        return np.asarray(self.values[places])

    def cut(self, longest: int) -> Ragged:
        """Every row cut into pieces of at most `longest` values; pieces of a single value are left out."""
        pieces = -(-self.lengths.astype(np.int64) // longest)
        row = np.repeat(np.arange(len(self)), pieces)
        first = np.cumsum(pieces) - pieces
        offset = (np.arange(len(row)) - first[row]) * longest
        lengths = np.minimum(longest, self.lengths[row] - offset)
        whole = lengths > 1
        return Ragged(self.values, lengths[whole], (self.starts[row] + offset)[whole])


class Packed(Views[np.ndarray]):
    """All rows one after the other, cut into new rows of `size` values. The last one is shorter, and left out where
    it would have a single value.

    Rows are built on access, so nothing is copied before.
    """

    def __init__(self, rows: Ragged, size: int) -> None:
        self._rows = rows
        self._size = size
        self._ends = np.cumsum(rows.lengths, dtype=np.int64)
        total = int(self._ends[-1]) if len(rows) else 0
        starts = np.arange(0, max(0, total - 1), size)
        self.lengths = np.minimum(size, total - starts)

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, number: int) -> np.ndarray:
        begin = number * self._size
        end = begin + int(self.lengths[number])
        first, last = np.searchsorted(self._ends, [begin, end - 1], side="right")
        joined = np.concatenate([self._rows[i] for i in range(first, last + 1)])
        skipped = begin - int(self._ends[first] - self._rows.lengths[first])
        return np.asarray(joined[skipped : skipped + end - begin])
