"""Whatever stands in the columns that are known, a row becomes a record or is left out with a reason."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from tests.support.published import DATA_SETS
from training.artifacts.layouts import comparisons, demonstrations, pretraining, prompts
from training.artifacts.layouts.catalog import LAYOUTS
from training.artifacts.layouts.grouping import demonstrated, judged
from training.artifacts.skips import Skip

pytestmark = pytest.mark.unit
PARSERS: Any = (demonstrations.parse, comparisons.parse, prompts.parse, pretraining.parse)
COLUMNS = sorted({name for layout in LAYOUTS for group in layout.columns for name in group})
LEAVES: list[Any] = [
    None,
    "",
    " ",
    "a",
    "b c",
    "\n\nHuman: a\n\nAssistant: b",
    "### Instruction:",
    "[",
    "[1]",
    "{}",
    "\ud83d",
]
LEAVES += [
    0,
    1,
    2,
    -1,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    10**400,
    True,
    False,
    [],
    {},
    "0",
    "true",
    "tie",
    "model_a",
]


def damaged(value: Any, rng: random.Random) -> Any:
    """The value with one thing in it replaced, left out, repeated or wrapped."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        rest = {k: v for k, v in value.items() if k != key}
        return rest if rng.random() < 0.2 else {**value, key: damaged(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:place] + value[place + 1 :]
        return [*value[:place], damaged(value[place], rng), *value[place + 1 :]]
    return rng.choice([rng.choice(LEAVES), [value], [value, value], {"text": value}, str(value), value])


def check(rows: list[dict[str, Any]]) -> None:
    for regroup in (demonstrated, judged):
        for row in regroup(iter(rows)):
            for parse in PARSERS:
                with contextlib.suppress(Skip):
                    assert "\\ud83d" not in repr(parse(row if not isinstance(row, Skip) else {}))


@pytest.mark.parametrize("data", DATA_SETS, ids=lambda data: data.name)
def test_published_rows_with_damage_inside(data: Any) -> None:
    rng = random.Random(data.name)
    for _ in range(10):
        rows = [damaged(row, rng) if rng.random() < 0.7 else row for row in data.rows]
        check([row for row in rows if isinstance(row, dict)])


def test_rows_of_known_columns_with_values_of_any_kind() -> None:
    rng = random.Random(1)
    values = [*LEAVES, *(value for data in DATA_SETS for row in data.rows for value in row.values())]
    for _ in range(400):
        check([{rng.choice(COLUMNS): rng.choice(values) for _ in range(rng.randint(1, 7))}])


@pytest.mark.parametrize("replies", [1, True, "a", {"a": 1}, [1, None], None])
def test_replies_that_are_no_list_of_messages(replies: Any) -> None:
    check([{"prompt": {"role": "prompter", "text": "a", "replies": replies}}])
