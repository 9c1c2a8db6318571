"""The stand-in labeler learns from human pairs, and says that it is none."""

from __future__ import annotations

import random

import pytest

from training.artifacts.comparisons import SIMULATED, Comparison, Response
from training.artifacts.errors import UserError
from training.loop import standin

pytestmark = pytest.mark.unit
GOOD, BAD = "thank you kindly", "go away fool"


def pair(number: int, better: str, worse: str, ranks: tuple[int, int] = (1, 2)) -> Comparison:
    filler = f"word{number} "
    responses = (Response(filler + better), Response(filler + worse))
    return Comparison(str(number), ({"role": "user", "content": "x"},), responses, ranks)


def test_it_prefers_what_people_preferred() -> None:
    rows = [pair(n, GOOD, BAD) if n % 2 else pair(n, BAD, GOOD, (2, 1)) for n in range(40)]
    labeler = standin.fit(rows)
    assert labeler.agreement([pair(n, GOOD, BAD) for n in range(100, 120)]) == (1.0, 20)
    assert labeler.agreement([pair(n, GOOD, BAD, (2, 1)) for n in range(100, 120)]) == (0.0, 20)
    assert labeler.rank(None, [BAD, GOOD, BAD], random.Random(0)) == [2, 1, 2]
    assert labeler.group == SIMULATED


def test_equal_texts_count_half_and_ties_not_at_all() -> None:
    labeler = standin.fit([pair(n, GOOD, BAD) for n in range(10)])
    assert labeler.agreement([pair(1, GOOD, GOOD), pair(2, GOOD, BAD, (1, 1))]) == (0.5, 1)


def test_without_a_decided_pair_it_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no decided pair to learn from: give more"):
        standin.fit([pair(1, GOOD, BAD, (1, 1))])


def test_length_is_one_of_its_features() -> None:
    short, long = standin.features("yes"), standin.features("yes " * 50)
    assert long[-1] > short[-1]
    assert (long[:-1] ** 2).sum() == pytest.approx(1)
