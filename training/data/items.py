"""What rows become for training: conversations to imitate and comparisons as views into memory-mapped token ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from training.data.ragged import Ragged, Views
from training.data.usage import Usage
from training.rl.losses import Pair


class Example(NamedTuple):
    """A conversation to imitate: token ids, and 1 where a token is learned; both of shape (tokens,)."""

    ids: np.ndarray
    mask: np.ndarray


class Ranking(NamedTuple):
    """A comparison as token ids: a row per response, prompt included, and the decided pairs among them."""

    rows: list[list[int]]
    pairs: list[Pair]
    group: str

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row. All share the prompt, so their order is that of the responses' lengths."""
        return [len(row) for row in self.rows]


class Items(Protocol):
    """A sequence whose elements can be chosen by their numbers."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, /) -> Any: ...


T = TypeVar("T", bound=Items)


@dataclass(frozen=True)
class Rows(Generic[T]):
    """The usable rows of a mixture.

    Attributes:
        items: what is trained on.
        users: the place of each one's user in [0, 1), by which splits go; NaN where no user is known. Empty for text.
        prompts: the place of each one's prompt in [0, 1). Empty for text.
        contents: a hash of each one's content.
        sources: the number of each one's source in the mixture.
        usage: what was used and left out.
    """

    items: T
    users: np.ndarray
    prompts: np.ndarray
    contents: np.ndarray
    sources: np.ndarray
    usage: Usage

    def __len__(self) -> int:
        return len(self.contents)

    def take(self, rows: np.ndarray) -> Rows[T]:
        """These rows in this order; what was used stays as it is."""
        text = not len(self.users)
        return replace(
            self,
            items=self.items.take(rows),
            users=self.users if text else self.users[rows],
            prompts=self.prompts if text else self.prompts[rows],
            contents=self.contents[rows],
            sources=self.sources[rows],
        )

    def without(self, left_out: np.ndarray, reason: str) -> Rows[T]:
        """Leave out the rows where `left_out` is true, and count them."""
        if not left_out.any():
            return self
        counts = np.bincount(self.sources[left_out], minlength=len(self.usage.sources))
        usage = self.usage.without([Counter({reason: int(n)} if n else {}) for n in counts])
        return replace(self.take(np.flatnonzero(~left_out)), usage=usage)


class Examples(Views[Example]):
    """Conversations to imitate, as views into the cache.

    Args:
        ids: token ids of each.
        turns: of each, start and length of every stretch of learned tokens, one after the other.
    """

    def __init__(self, ids: Ragged, turns: Ragged) -> None:
        self.ids = ids
        self.turns = turns

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, number: int) -> Example:
        ids = self.ids[number]
        mask = np.zeros(len(ids), dtype=np.uint8)
        for start, length in self.turns[number].reshape(-1, 2):
            mask[start : start + length] = 1
        return Example(ids, mask)

    def learned_lengths(self) -> np.ndarray:
        """Learned tokens of each conversation."""
        ends = np.cumsum(self.turn_lengths(), dtype=np.int64)
        last = np.cumsum(self.turns.lengths // 2) - 1
        return np.diff(ends[last], prepend=0)

    def take(self, rows: np.ndarray) -> Examples:
        return Examples(self.ids.take(rows), self.turns.take(rows))

    def turn_lengths(self) -> np.ndarray:
        """Learned tokens of every single assistant turn, its end included."""
        return self.turns.joined()[1::2]


class Rankings(Views[Ranking]):
    """Comparisons, as views into the cache.

    Args:
        rows: token ids of all responses.
        places: of each comparison, the numbers of its `rows`.
        pairs: of each comparison, its decided pairs, one after the other.
        groups: of each comparison, the number of its labelers' group in `names`.
    """

    def __init__(self, rows: Ragged, places: Ragged, pairs: Ragged, groups: np.ndarray, names: Sequence[str]) -> None:
        self.rows = rows
        self.places = places
        self.pairs = pairs
        self.groups = groups
        self.names = names

    def __len__(self) -> int:
        return len(self.groups)

    def row(self, number: int) -> Ranking:
        pairs = [(int(i), int(j), int(outcome)) for i, j, outcome in self.pairs[number].reshape(-1, 3)]
        return Ranking(
            [self.rows[int(i)].tolist() for i in self.places[number]], pairs, self.names[int(self.groups[number])]
        )

    def take(self, rows: np.ndarray) -> Rankings:
        return Rankings(self.rows, self.places.take(rows), self.pairs.take(rows), self.groups[rows], self.names)

    def sizes(self) -> np.ndarray:
        """Tokens of all responses of each comparison."""
        return np.array([self.rows.lengths[self.places[row]].sum() for row in range(len(self))], dtype=np.int64)
