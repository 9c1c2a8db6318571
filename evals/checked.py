"""Rows of result files as their classes, checked: what somebody edited or damaged is refused, not computed with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.results import Item

TABLES = ("sampling", "data", "judges", "metrics", "declared", "comparable", "options", "manifest", "packages")
TEXTS = ("system", "label", "checkpoint", "ask", "items_file", "items_sha256")


def parsed(text: str) -> dict[str, Any]:
    """The object of a JSON text. Raises `ValueError` for anything else, however damaged."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def check_fields(row: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a result whose fields are of another kind than the contract says."""
    for name in TABLES:
        if name in row and not isinstance(row[name], Mapping):
            raise ValueError(f"{name} is not a table")
    for name in ("declared", "comparable", "metrics"):
        for key, fields in row.get(name, {}).items():
            if not isinstance(fields, Mapping):
                raise ValueError(f"{name} of {key} is not a table")
    for name in TEXTS:
        if not isinstance(row.get(name, ""), str):
            raise ValueError(f"{name} is not text")
    for key, fields in row.get("declared", {}).items():
        margin, better = fields.get("margin"), fields.get("better")
        if key.count(".") != 2:
            raise ValueError(f"{key} is not of the form SUITE.TASK.SCORE")
        if margin is not None and not (is_number(margin) and margin >= 0):
            raise ValueError(f"the margin of {key} is {margin!r:.40}, not a number from 0")
        if better not in ("higher", "lower", None):
            raise ValueError(f"{key} is better when {better!r:.40}, which is neither higher nor lower")


def item_of(line: str, item: type[Item]) -> Item:
    """The item of a line. Raises `ValueError` or `TypeError`."""
    row = parsed(line)
    for name in ("suite", "task", "id", "prompt_hash"):
        if not isinstance(row.get(name), str):
            raise ValueError(f"{name} is not text")
    scores = row.get("scores")
    if not isinstance(scores, Mapping):
        raise ValueError("scores is not a table")
    for name, value in scores.items():
        if "." in name or not (value is None or isinstance(value, int | float)):
            raise ValueError(f"the score {name} is {value!r:.40}, not a number")
        if isinstance(value, int) and not is_number(value):
            raise ValueError(f"the score {name} is too great")
    if "." in row["task"] or "." in row["suite"]:
        raise ValueError("a dot in the name of a suite or task")
    if not is_number(row.get("weight", 1.0)) or row.get("weight", 1.0) <= 0:
        raise ValueError(f"its weight is {row['weight']!r:.40}, not a number above 0")
    for name in ("cluster", "missing"):
        if not isinstance(row.get(name), str | None):
            raise ValueError(f"{name} is not text")
    if not isinstance(row.get("tags", {}), Mapping):
        raise ValueError("tags is not a table")
    return item(**row)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that fits a float; a flag is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
