"""Data sets whose records are spread over rows, or share a row: rows in, one row per record out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from training.artifacts.layouts import trees
from training.artifacts.layouts.columns import filled, first_filled
from training.artifacts.layouts.exchanges import ANSWERS, PROMPTS
from training.artifacts.layouts.faults import fault
from training.artifacts.layouts.preferences.ratings import RATINGS
from training.artifacts.loading import Row
from training.artifacts.skips import Skip

JUDGED = ("responses", "completions", "generations", "answers", "chosen", "rejected", "ranks", "pairs")


def demonstrated(rows: Iterable[Row | Skip]) -> Iterator[Row | Skip]:
    """Rows of demonstrations or prompts: one per instance of self-instruct's tasks, one per tree of OASST.

    A tree gives the conversation along its best replies.
    """
    messages: list[Row] = []
    for row in rows:
        if isinstance(row, Skip):
            yield row
        elif trees.is_message(row):
            messages.append(row)
        elif trees.is_tree(row):
            yield from trees.best_paths([row["prompt"]])
        elif isinstance(row.get("instances"), list) and filled(row, "instances"):
            yield from _instances(row)
        else:
            yield row
    yield from trees.best_paths(trees.grown(messages))


def judged(rows: Iterable[Row | Skip]) -> Iterator[Row | Skip]:
    """Rows of comparisons: one per prompt whose rated responses have a row each, one per ranked turn of OASST.

    These rows are gathered over the whole source, so their order does not matter; they come last.
    """
    messages: list[Row] = []
    rated: dict[str, list[Row]] = {}
    for row in rows:
        if isinstance(row, Skip):
            yield row
        elif trees.is_message(row):
            messages.append(row)
        elif trees.is_tree(row):
            yield from trees.siblings([row["prompt"]])
        elif (prompt := _rated_prompt(row)) is not None:
            rated.setdefault(prompt, []).append(row)
        else:
            yield row
    yield from trees.siblings(trees.grown(messages))
    for group in rated.values():
        yield _merged(group)


def _instances(row: Row) -> Iterator[Row | Skip]:
    task = {name: row[name] for name in row if name != "instances"}
    for instance in row["instances"]:
        yield task | instance if isinstance(instance, dict) else fault("instance_not_object")


def _rated_prompt(row: Row) -> str | None:
    """The prompt of a row with one response and its rating, as text to group by; None for other rows."""
    if any(filled(row, name) for name in JUDGED):
        return None
    rating, prompt, answer = (first_filled(row, names) for names in (RATINGS, PROMPTS, ANSWERS))
    if rating is None or prompt is None or answer is None or isinstance(row[rating], list):
        return None
    try:
        return repr([row[name] for name in (prompt, "system", "system_prompt", "input", "context") if name in row])
    except RecursionError:  # nested too deeply: the layouts leave it out
        return None


def _merged(rows: list[Row]) -> dict[str, Any]:
    """One row whose responses and ratings are lists; the other columns are those of the first."""
    answer = first_filled(rows[0], ANSWERS)
    listed = {name for row in rows for name in RATINGS if filled(row, name)} | {answer}
    names = dict.fromkeys(name for row in rows for name in row)
    return {n: [row.get(n) for row in rows] if n in listed else rows[0].get(n) for n in names}
