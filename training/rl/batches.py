"""Which rows make a batch: shuffled, of like length, by rows or by tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Generic, NamedTuple, TypeVar

from training.runtime import ranks
from training.runtime.runs import rng_for

Row = TypeVar("Row")
POOL = 16  # batches whose rows are sorted by length together


def epoch_batches(lengths: Sequence[int], size: int, *names: int | str) -> list[list[int]]:
    """One pass over all rows in batches of `size`, rows of like length together, batches in random order.

    The last batch is smaller where `size` does not divide the rows.
    """
    rng = rng_for("batches", *names)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), size * POOL):
        pool = sorted(order[start : start + size * POOL], key=lambda i: lengths[i])
        batches += [pool[a : a + size] for a in range(0, len(pool), size)]
    rng.shuffle(batches)
    return batches


def token_batches(lengths: Sequence[int], tokens: int, *names: int | str) -> list[list[int]]:
    """One pass over all rows in batches of at most `tokens` tokens, padding included (one row at least).

    Rows of like length stand together in random order, so hardly any padding is computed.
    """
    rng = rng_for("batches", *names)
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], rng.random()))
    batches = _filled(order, lengths, tokens)
    rng.shuffle(batches)
    return batches


def passes(rows: Sequence[Row], lengths: Sequence[int], tokens: int) -> list[list[Row]]:
    """Cut a batch into the micro-batches that go forward one by one: at most `tokens` tokens each, padding included.

    Rows of like length stand together. A row that is longer than that goes alone.

    Args:
        lengths: tokens of each of these rows.
    """
    order = sorted(range(len(rows)), key=lambda place: lengths[place])
    return [[rows[place] for place in part] for part in _filled(order, lengths, tokens)]


class Pass(NamedTuple, Generic[Row]):
    """Rows that go forward together.

    Attributes:
        weight: 1; 0 where the rows are another process's, and nothing of them counts.
    """

    rows: list[Row]
    weight: float


def own_passes(rows: Sequence[Row], lengths: Sequence[int], tokens: int) -> list[Pass[Row]]:
    """The passes of this process's share of a batch; of the whole batch, where there is one process.

    All processes get equally many, since those of a model that is divided over them compute together: one that has
    fewer rows goes through the shortest row again, with weight 0.
    """
    shares = [
        passes([rows[place] for place in places], [lengths[place] for place in places], tokens)
        for places in ranks.shares(lengths)
    ]
    own = [Pass(part, 1.0) for part in shares[ranks.rank()]]
    missing = max(map(len, shares)) - len(own)
    if missing:
        shortest = min(range(len(rows)), key=lambda place: lengths[place])
        own += [Pass([rows[shortest]], 0.0)] * missing
    return own


def _filled(order: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows, shorter ones first, in batches of at most `tokens` tokens with padding; no batch is empty."""
    batches: list[list[int]] = []
    for row in order:
        if not batches or (len(batches[-1]) + 1) * lengths[row] > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def endless(rows: int, *names: int | str) -> Iterator[int]:
    """All rows in random order, again and again in new orders; nothing where there are none."""
    for one_pass in count() if rows else ():
        order = list(range(rows))
        rng_for("endless", *names, one_pass).shuffle(order)
        yield from order


def cycle_batch(rows: int, size: int, number: int, *names: int | str) -> list[int]:
    """Batch `number`, of `size` rows, of an endless sequence of shuffled passes over all rows."""
    batch: list[int] = []
    while len(batch) < size:
        one_pass, start = divmod(number * size + len(batch), rows)
        order = _shuffled_pass(rows, one_pass, names)
        batch += order[start : start + size - len(batch)]
    return batch


@lru_cache(maxsize=8)  # the passes in progress: shuffling a million rows anew for each batch takes a second
def _shuffled_pass(rows: int, number: int, names: tuple[int | str, ...]) -> tuple[int, ...]:
    order = list(range(rows))
    rng_for("stretch", *names, number).shuffle(order)
    return tuple(order)


def chunks(rows: Sequence[int], size: int) -> list[list[int]]:
    """Cut a batch into parts of at most `size` rows."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]
