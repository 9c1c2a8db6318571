"""A list of responses with ranks or ratings: UltraFeedback, Nectar, stack exchange, distilabel, HelpSteer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from training.artifacts.comparisons import Comparison
from training.artifacts.layouts.columns import Layout, entries_of, filled, first_filled, number, parsed, peek, text_in
from training.artifacts.layouts.exchanges import ANSWERS
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.preferences.ratings import (
    RANKS,
    RATINGS,
    numbers,
    ranks_of_order,
    ranks_of_ratings,
)
from training.artifacts.layouts.preferences.record import comparison, question_of
from training.artifacts.loading import Row

LISTS = ("completions", "answers", "responses", "generations", "candidates", "outputs")
TEXTS = ("response", "answer", "completion", "text", "content", "generation", "output")
OBJECT_RATINGS = ("overall_score", "fine-grained_score", "rating", "score", "reward", "pm_score")


def _list_of_objects(row: Row) -> str | None:
    """The column with a list of objects that each hold a response."""
    for name in LISTS:
        entries = entries_of(peek(row, name))
        if entries and isinstance(entries, list | tuple) and all(_is_response(entry) for entry in entries):
            return name
    return None


def _is_response(entry: Any) -> bool:
    return isinstance(entry, Mapping) and any(key in entry for key in TEXTS)


def _is_judged(row: Row) -> bool:
    name = _list_of_objects(row)
    keys = ("rank", *OBJECT_RATINGS, "annotations")
    return name is not None and any(entry.get(key) is not None for entry in entries_of(peek(row, name)) for key in keys)


def read_objects(row: Row) -> Comparison:
    """Objects with a text and a rank (Nectar), or a rating (UltraFeedback). Raises `Skip`."""
    entries = entries_of(row[_list_of_objects(row) or ""])
    texts = [_text(entry) for entry in entries]
    if any(entry.get("rank") is not None for entry in entries):
        places = numbers([entry.get("rank") for entry in entries], len(entries), "rank")
        return comparison(row, question_of(row), texts, ranks=ranks_of_order(places))
    key = next((key for key in OBJECT_RATINGS if any(entry.get(key) is not None for entry in entries)), None)
    values = [_mean_rating(entry) if key is None else entry.get(key) for entry in entries]
    ratings = numbers(values, len(entries), key or "annotations")
    return _rated(row, texts, ratings)


def _mean_rating(entry: Mapping[str, Any]) -> float | None:
    """Mean over the aspects of UltraFeedback's annotations, each {"Rating": "4", ...}; None where one has none."""
    aspects = entry.get("annotations")
    if not isinstance(aspects, Mapping) or not aspects:
        return None
    ratings = [number(aspect.get("Rating")) if isinstance(aspect, Mapping) else None for aspect in aspects.values()]
    return mean(r for r in ratings if r is not None) if None not in ratings else None


def read_columns(row: Row) -> Comparison:
    """A list of texts, and beside it a list of ranks or ratings. Raises `Skip`."""
    name = _list_of_texts(row) or ""
    texts = [_text(text) for text in parsed(row[name])]
    ranks = first_filled(row, RANKS)
    if ranks is not None:
        return comparison(
            row, question_of(row), texts, ranks=ranks_of_order(numbers(parsed(row[ranks]), len(texts), ranks))
        )
    rating = next(n for n in RATINGS if filled(row, n))
    return _rated(row, texts, numbers(parsed(row[rating]), len(texts), rating))


def _list_of_texts(row: Row) -> str | None:
    for name in (*LISTS, *ANSWERS):
        values = parsed(peek(row, name))
        if values and isinstance(values, list | tuple) and all(isinstance(v, str) or _is_response(v) for v in values):
            return name
    return None


def _rated(row: Row, texts: Sequence[str], ratings: Sequence[float]) -> Comparison:
    return comparison(
        row,
        question_of(row),
        texts,
        ranks=ranks_of_ratings(ratings),
        derived="ratings",
        meta={"ratings": list(ratings)},
    )


def _text(value: Any) -> str:
    """The text of a response: text itself, or the first of an object's keys that hold it."""
    text = text_in(next(value[key] for key in TEXTS if key in value) if _is_response(value) else value)
    if text is None:
        raise fault("response_not_text")
    return text


LAYOUTS = (
    Layout(
        "list of judged responses",
        "comparisons",
        (LISTS,),
        "UltraFeedback's `completions` (`overall_score`, else `fine-grained_score`, else the mean of the "
        "`annotations`), Nectar's `answers` (`rank`), stack exchange (`pm_score`). Ranks from ratings are marked "
        "as derived.",
        read_objects,
        _is_judged,
    ),
    Layout(
        "responses and ratings",
        "comparisons",
        ((*LISTS, *ANSWERS), (*RANKS, *RATINGS)),
        "distilabel's `generations` and `ratings`; HelpSteer and unpaired preferences, whose rows for one prompt "
        "become one comparison by `helpfulness`, `score`, `label`. Ranks from ratings are marked as derived.",
        read_columns,
        lambda row: _list_of_texts(row) is not None,
    ),
)
