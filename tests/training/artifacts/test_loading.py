"""Typed records of a source, what is said of them, random limits, mixtures."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file
from training.artifacts.loading import UNKNOWN_COLUMNS, Loaded, Reading, TrackedRow, load, parse_mixture
from training.artifacts.rows import Skip

pytestmark = pytest.mark.unit


def number(row: TrackedRow) -> int:
    """A layout that knows the column `n`, and would use `note`."""
    if "n" not in row:
        raise Skip(UNKNOWN_COLUMNS)
    if row.get("note") == "bad":
        raise Skip("bad", "the note is bad")
    return int(row["n"])


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_what_was_used_left_out_and_ignored_is_counted(tmp_path: Path) -> None:
    rows = [
        {"n": 1, "id": "a", "other": None, "empty": ""},
        {"n": 2, "note": "bad", "unused": "in a row that is left out"},
        {"n": 3, "id": "b", "meta": {"x": 1}},
        "{broken",
        {"n": 4, "note": "good"},
        {"m": 1},
        "{broken too",
    ]
    source = write(tmp_path / "a.jsonl", rows)
    loaded = load(source, number, needs="`n`")
    assert (loaded.records, loaded.rows) == ([1, 3, 4], 7)
    assert loaded.skipped == {
        "not valid JSON": 2,
        "the note is bad": 1,
        "no column that is known for this kind of data": 1,
    }
    assert loaded.ignored == {"id": 2, "meta": 1}
    assert loaded.summary() == {
        "path": source,
        "sha256": sha256_file(tmp_path / "a.jsonl"),
        "rows": 7,
        "skipped": dict(loaded.skipped),
    }


def test_records_come_one_by_one(tmp_path: Path) -> None:
    reading = Reading(write(tmp_path / "a.jsonl", [{"n": 1}, "bad", {"n": 2}]), number, needs="`n`")
    records = iter(reading)
    assert (next(records), reading.rows, reading.skipped) == (1, 1, {})
    assert (list(records), reading.rows) == ([2], 3)
    assert reading.skipped == {"not valid JSON": 1}


def test_positions_count_unusable_rows_too(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [{"n": 1}, "bad", "", {"n": 2}])
    assert load(source, lambda row: (row.number, row["n"]), needs="`n`").records == [(0, 1), (2, 2)]


def test_rows_can_be_regrouped_before_they_are_parsed(tmp_path: Path) -> None:
    def doubled(rows: Any) -> Any:
        for row in rows:
            yield row
            if not isinstance(row, Skip):
                yield {"n": 10 * row["n"], "from": "regrouping"}

    loaded = load(write(tmp_path / "a.jsonl", [{"n": 1}, "bad"]), number, needs="`n`", regroup=doubled)
    assert (loaded.records, loaded.rows, loaded.skipped) == ([1, 10], 3, {"not valid JSON": 1})
    assert loaded.ignored == {"from": 1}


def test_a_layout_that_recurses_too_deeply_loses_its_row_alone(tmp_path: Path) -> None:
    def depth(value: Any) -> int:
        return 1 + max(map(depth, value)) if value else 0

    nested = "[" * 800 + "]" * 800
    source = write(tmp_path / "a.jsonl", ['{"v": []}', '{"v": ' + nested + "}", '{"v": [[]]}'])
    loaded = load(source, lambda row: depth(row["v"]), needs="`v`")
    assert (loaded.records[0], loaded.records[-1]) == (0, 1)
    assert len(loaded.records) + loaded.skipped["nested too deeply"] == 3


class TestLimit:
    def test_is_a_random_sample_in_the_source_s_order(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.jsonl", [*({"n": n} for n in range(500)), "bad"])
        one = load(source, number, needs="`n`", limit=50, seed=1)
        assert one.records == sorted(set(one.records))
        assert len(one.records) == 50
        assert one.records != list(range(50))
        assert one.records == load(source, number, needs="`n`", limit=50, seed=1).records
        assert one.records != load(source, number, needs="`n`", limit=50, seed=2).records
        assert (one.rows, one.skipped) == (501, {"not valid JSON": 1})

    def test_gives_every_row_the_same_chance(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.jsonl", [{"n": n} for n in range(10)])
        drawn = Counter(n for seed in range(500) for n in load(source, number, needs="`n`", limit=3, seed=seed).records)
        # 150 expected each, with a standard deviation of sqrt(500 * 0.3 * 0.7) = 10.2.
        assert all(150 - 41 < drawn[n] < 150 + 41 for n in range(10))

    def test_of_more_than_there_are_takes_all(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.jsonl", [{"n": n} for n in range(5)])
        assert load(source, number, needs="`n`", limit=9).records == list(range(5))

    def test_counts_ignored_columns_of_drawn_rows_alone(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.jsonl", [{"n": n, "id": n} for n in range(20)])
        assert load(source, number, needs="`n`", limit=4).ignored == {"id": 4}

    def test_of_loaded_records(self) -> None:
        loaded = Loaded(list(range(100)), "", 100, Counter(), "a")
        drawn = loaded.sample(10, seed=3)
        assert len(drawn.records) == 10
        assert drawn.records == sorted(set(drawn.records)) != list(range(10))
        assert loaded.sample(None).records == loaded.sample(100).records == loaded.records

    def test_below_one_is_refused(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.jsonl", [{"n": 1}])
        with pytest.raises(UserError, match=r"a limit of 0 leaves no row of .*: use 1 or more"):
            load(source, number, needs="`n`", limit=0)
        with pytest.raises(UserError, match="a limit of -1 leaves no row"):
            Loaded([1, 2], "", 2, Counter(), "a").sample(-1)


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], r"a\.jsonl is empty: give a source with at least one row"),
        (["", ""], r"a\.jsonl is empty"),
        ([{"x": 1, "y": 2}], r"a\.jsonl has the columns x, y; this kind of data needs `n`$"),
        (
            [{"n": 1, "note": "bad"}, "{", "{"],
            r"none of the 3 rows of \S+a\.jsonl can be used \(2 x not valid JSON, 1 x the note is bad\): mend or",
        ),
    ],
)
def test_without_a_usable_row_the_reasons_are_the_error(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path / "a.jsonl", rows), number, needs="`n`")


def test_plain_text_for_a_layout_that_needs_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text\n")
    with pytest.raises(UserError, match=r"a\.txt is plain text; this kind of data needs `n`"):
        load(str(tmp_path / "a.txt"), number, needs="`n`")


def test_leaving_out_records_afterwards_is_counted() -> None:
    loaded = Loaded([1, 2, 3], "", 4, Counter({"old": 1}), "a")
    rest = loaded.without(lambda n: "odd" if n % 2 else None)
    assert (rest.records, rest.skipped) == ([2], {"old": 1, "odd": 2})
    with pytest.raises(UserError, match=r"none of the 4 rows of a can be used \(3 x all, 1 x old\)"):
        loaded.without(lambda n: "all")


def test_mixtures(tmp_path: Path) -> None:
    assert parse_mixture(["a.jsonl", "owner/b:main@train=3", "c=.5"]) == [
        ("a.jsonl", 1.0),
        ("owner/b:main@train", 3.0),
        ("c", 0.5),
    ]
    named = tmp_path / "x=2"
    named.write_text("")
    assert parse_mixture([str(named), f"{named}=4"][:1]) == [(str(named), 1.0)]
    assert parse_mixture([f"{named}=4"]) == [(str(named), 4.0)]


@pytest.mark.parametrize(
    "sources, message",
    [
        ([], "there is no source of data"),
        (["a=0"], "a=0 has no usable weight: write SOURCE=WEIGHT with a number above 0, such as a=3"),
        (["a=-1"], "no usable weight"),
        (["a=nan"], "no usable weight"),
        (["a=inf"], "no usable weight"),
        (["a=1e999"], "no usable weight"),
        (["a=b"], "no usable weight"),
        (["a="], "no usable weight"),
        (["a=1000000000000"], "a source is used at most 1,000 times per pass, lower its weight"),
        (["=2"], "name every source once"),
        (["a", "a=2"], "name every source once"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(sources: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_mixture(sources)
