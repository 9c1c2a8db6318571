"""Ranks of responses from given ranks or from ratings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.artifacts.layouts.columns import number, truth
from training.artifacts.layouts.faults import fault

FLAGS = ("label", "kto_tag")  # of unpaired preferences: true is better than false
RANKS = ("ranks", "rank", "ranking", "rankings")
# Columns with one overall rating; the first that is there is read. helpfulness: HelpSteer's overall measure.
RATINGS = (
    "overall_score",
    "helpfulness",
    "ratings",
    "rating",
    "scores",
    "score",
    "rewards",
    "reward",
    *FLAGS,
)


def numbers(values: Any, count: int, name: str) -> list[float]:
    """One finite number per response.

    Raises:
        Skip: their count differs from the responses', or one is not a number.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise fault("other_count", name)
    read = [number(value) if name not in FLAGS else number(truth(value)) for value in values]
    result = [value for value in read if value is not None]
    if len(result) < count:
        raise fault("no_number", name)
    return result


def ranks_of_ratings(ratings: Sequence[float]) -> tuple[int, ...]:
    """1 + the number of better responses: higher ratings are better, equal ones are ties."""
    return tuple(1 + sum(other > rating for other in ratings) for rating in ratings)


def ranks_of_order(places: Sequence[float]) -> tuple[int, ...]:
    """Ranks as they are given where they are whole numbers from 1 to K; else 1 + the number of lower places."""
    if all(place == int(place) and 1 <= place <= len(places) for place in places):
        return tuple(int(place) for place in places)
    return tuple(1 + sum(other < place for other in places) for place in places)
