"""Every data set that people publish becomes exactly the records that a person would write of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.published import DATA_SETS, DataSet, Judged
from training.artifacts.comparisons import Comparison
from training.artifacts.layouts import comparisons, demonstrations, pretraining, prompts
from training.artifacts.layouts.catalog import LAYOUTS
from training.artifacts.layouts.columns import any_case, choose
from training.artifacts.loading import Loaded, TrackedRow
from training.artifacts.skips import Skip

pytestmark = pytest.mark.unit
KINDS: dict[str, Any] = {
    "demonstrations": demonstrations,
    "comparisons": comparisons,
    "prompts": prompts,
    "pretraining": pretraining,
}
READ_AS = [(data, kind) for data in DATA_SETS for kind in KINDS if getattr(data, kind) is not None]


def held(record: Any) -> Any:
    """What a record holds, in the form of the expectations."""
    if isinstance(record, str):
        return record
    if not isinstance(record, Comparison):
        return [dict(message) for message in record.messages]
    return Judged(
        [dict(message) for message in record.messages],
        [response.text for response in record.responses],
        None if record.ranks is None else list(record.ranks),
        None if record.pairs is None else list(record.pairs),
        record.derived,
        record.all_bad,
        record.labeler,
        record.user,
    )


@pytest.mark.parametrize("data, kind", READ_AS, ids=[f"{data.name}-{kind}" for data, kind in READ_AS])
def test_the_records_equal_those_written_by_hand(data: DataSet, kind: str, tmp_path: Path) -> None:
    loaded: Loaded[Any] = KINDS[kind].load(data.write(tmp_path))
    assert [held(record) for record in loaded.records] == getattr(data, kind)
    assert dict(loaded.skipped) == data.skipped.get(kind, {})
    assert loaded.rows == len(loaded.records) + sum(loaded.skipped.values())
    assert set(loaded.ignored) >= data.ignored.get(kind, set())


def test_every_layout_is_shown_by_a_data_set_that_it_is_the_first_to_fit() -> None:
    shown = {(kind, name) for data in DATA_SETS for kind, name in data.layouts.items()}
    # Prompts of these come from the comparisons' own tests; lines are no rows of a JSONL file.
    assert {(layout.kind, layout.name) for layout in LAYOUTS if layout.kind != "prompts"} <= shown
    names = {(layout.kind, layout.name) for layout in LAYOUTS}
    assert shown <= names
    assert len(names) == len(LAYOUTS)


@pytest.mark.parametrize("data", DATA_SETS, ids=lambda data: data.name)
def test_rows_fit_the_layout_that_carries_their_name(data: DataSet) -> None:
    from training.artifacts.layouts.grouping import demonstrated, judged

    for kind, name in data.layouts.items():
        regroup = judged if kind == "comparisons" else demonstrated
        rows = [row for row in regroup(iter(data.rows)) if not isinstance(row, Skip)]
        fitting = []
        for row in rows:
            try:
                fitting.append(choose(KINDS[kind].LAYOUTS, any_case(row)).name)
            except Skip:
                continue
        assert name in fitting


def test_the_catalog_says_what_every_layout_reads() -> None:
    for layout in LAYOUTS:
        assert layout.name
        assert layout.note.endswith(".")
        assert all(layout.columns)


def test_columns_that_are_only_looked_at_do_not_count_as_read() -> None:
    row = TrackedRow({"prompt": "q", "response": "a", "rejected": "b", "score_chosen": 1.0, "language": "en"}, 0)
    demonstrations.parse(row)
    assert sorted(row.unread()) == ["language", "rejected", "score_chosen"]
