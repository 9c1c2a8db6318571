"""Which prompts may read an engine's prefix cache, by blocks of four tokens counted by hand."""

from __future__ import annotations

import random

import pytest

from service.likelihoods import Pair, common, may_read_cache

pytestmark = pytest.mark.unit
CONTEXT = (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # Alone: nothing is shared.
        ([Pair((1, 2, 3, 4), (5,))], [True]),
        # 6 shared tokens are one block of 4, which ends before position 5, where the first continuation is predicted.
        ([Pair(CONTEXT, (7, 8)), Pair(CONTEXT, (9, 8))], [True, True]),
        # The context is one whole block: its last position would be read, and the value of token 4 missing.
        ([Pair((1, 2, 3, 4), (7,)), Pair((1, 2, 3, 4), (9,))], [False, False]),
        # 6 + 2 tokens alike make two blocks, which reach into the continuations.
        ([Pair(CONTEXT, (7, 8, 9)), Pair(CONTEXT, (7, 8, 1))], [False, False]),
        # 6 + 1 alike do not.
        ([Pair(CONTEXT, (7, 8, 9)), Pair(CONTEXT, (7, 1, 1))], [True, True]),
        # The same ids split elsewhere, and a prompt that is the beginning of another.
        ([Pair((1, 2), (3, 4, 5)), Pair((1, 2, 3, 4, 5), (6,))], [False, True]),
        # Identical prompts.
        ([Pair((1,), (2, 3, 4, 5)), Pair((1,), (2, 3, 4, 5))], [False, False]),
        # The one alike is not beside it in the request.
        (
            [Pair((1, 2, 3, 4), (7,)), Pair((9, 9), (9,)), Pair((1, 2, 3, 4), (8,)), Pair((1, 9), (1,))],
            [False, True] * 2,
        ),
    ],
)
def test_by_hand(pairs: list[Pair], expected: list[bool]) -> None:
    assert may_read_cache(pairs, block=4) == expected


def test_neighbours_are_enough() -> None:
    """Against every other pair, over few ids, so that much is alike."""
    rng = random.Random(0)
    for _ in range(200):
        pairs = [
            Pair(tuple(rng.choices((0, 1), k=rng.randint(1, 6))), tuple(rng.choices((0, 1), k=rng.randint(1, 6))))
            for _ in range(rng.randint(1, 9))
        ]
        block = rng.choice((1, 2, 3, 4))
        expected = []
        for index, pair in enumerate(pairs):
            longest = max((common(pair.ids, o.ids) for i, o in enumerate(pairs) if i != index), default=0)
            expected.append(longest // block * block < len(pair.context))
        assert may_read_cache(pairs, block) == expected
