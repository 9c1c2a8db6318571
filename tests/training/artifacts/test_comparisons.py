"""The schema of comparisons: golden lines, round trips, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.artifacts.comparisons import (
    Comparison,
    ComparisonError,
    Response,
    freeze,
    from_json,
    from_row,
    pairs_of,
    read,
    to_json,
)
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit

GOLDEN = """
{"all_bad": false, "created": "2026-01-31T10:15:02+00:00", "derived": null, "flags": [[], ["hallucination"], []],
 "format": 1, "guideline": "1", "id": "c-1", "labeler": "l-7", "labeler_group": "training",
 "messages": [{"content": "Who wrote Faust?", "role": "user"}], "meta": {"note": "é"}, "pairs": null,
 "prompt_id": "p-1", "propensity": 0.25, "ranks": [1, 2, 2], "ratings": [7, null, 3],
 "responses": [
  {"checkpoint": "sft-1", "finish_reason": "stop", "sampling": {"temperature": 1.0}, "text": "Goethe."},
  {"checkpoint": null, "finish_reason": null, "sampling": {}, "text": "Schiller."},
  {"checkpoint": null, "finish_reason": "length", "sampling": {}, "text": "A poet who"}],
 "shown": [2, 0, 1], "supersedes": null, "user": "u-3"}
"""

MESSAGES: tuple[Mapping[str, str], ...] = ({"role": "user", "content": "hi"},)
TEXTS = st.text(max_size=12).map(lambda text: text.replace("\0", ""))
NAMES = st.none() | TEXTS


def comparison(k: int = 2, **changes: Any) -> Comparison:
    given = {"id": "a", "messages": MESSAGES, "responses": tuple(Response(f"r{i}") for i in range(k))}
    return Comparison(**{**given, **changes})


def golden() -> dict[str, Any]:
    row: dict[str, Any] = json.loads(GOLDEN)
    return row


def test_golden_line_is_read_and_written_unchanged() -> None:
    row = golden()
    read_back = from_json(GOLDEN)
    assert json.loads(to_json(read_back)) == row
    assert to_json(read_back) == json.dumps(row, sort_keys=True, ensure_ascii=False)
    assert read_back.responses[0] == Response("Goethe.", "sft-1", {"temperature": 1.0}, "stop")
    assert pairs_of(read_back) == [(0, 1, 1), (0, 2, 1), (1, 2, 0)]


def test_the_schema_has_these_fields_and_no_others() -> None:
    assert {field.name for field in fields(Comparison)} == set(golden())
    assert {field.name for field in fields(Response)} == set(golden()["responses"][0])


def test_a_file_frozen_before_ranks_could_be_derived_is_still_read() -> None:
    row = golden()
    del row["derived"]
    assert from_json(json.dumps(row)) == from_json(GOLDEN)
    assert from_json(json.dumps(row)).derived is None
    assert from_json(json.dumps(row | {"derived": "ratings"})).derived == "ratings"


def test_whole_numbers_may_be_written_as_tables_write_them_and_other_columns_are_not_read() -> None:
    row = golden() | {"split": "train", "extra": {"a": 1}, "all_bad": None, "meta": None}
    row |= {"ranks": [1.0, 2.0, 2.0], "ratings": [7.0, float("nan"), 3.0], "shown": [2.0, 0.0, 1.0]}
    row["responses"] = [response | {"model": "m"} for response in row["responses"]]
    expected = from_json(json.dumps(golden() | {"meta": {}}))
    assert from_row(row) == expected
    assert [type(rank) for rank in from_row(row).ranks or ()] == [int] * 3
    assert from_row(row | {"ranks": None, "pairs": [[0.0, 1.0, -1.0]]}).pairs == ((0, 1, -1),)
    with pytest.raises(UserError, match="ranks must be K whole numbers from 1 to K"):
        from_row(row | {"ranks": [1.5, 2, 3]})


def test_text_parts_of_a_frozen_row_are_text() -> None:
    parts = [{"type": "text", "text": "Who wrote "}, {"type": "text", "text": "Faust?"}]
    row = golden() | {"messages": [{"role": "user", "content": parts}]}
    row["responses"][0]["text"] = [{"type": "text", "text": "Goethe."}]
    assert from_row(row) == from_json(GOLDEN)


def test_an_error_keeps_its_reason_apart_from_the_id() -> None:
    with pytest.raises(ComparisonError) as error:
        comparison(id="a: b", ranks=(1, 2, 3))
    assert error.value.reason == "ranks must be K whole numbers from 1 to K"
    assert str(error.value) == "comparison a: b: ranks must be K whole numbers from 1 to K"


@st.composite
def any_comparison(draw: st.DrawFn) -> Comparison:
    k = draw(st.integers(2, 9))
    per_response = {"min_size": k, "max_size": k}
    ranked = draw(st.booleans())
    every_pair = list(combinations(range(k), 2))
    chosen = draw(st.lists(st.sampled_from(every_pair), min_size=1, unique=True))
    return Comparison(
        id=draw(TEXTS),
        messages=tuple({"role": "user", "content": text} for text in draw(st.lists(TEXTS, min_size=1, max_size=3))),
        responses=tuple(
            Response(draw(TEXTS), draw(NAMES), draw(st.dictionaries(TEXTS, st.floats(0, 2), max_size=2)), draw(NAMES))
            for _ in range(k)
        ),
        ranks=tuple(draw(st.lists(st.integers(1, k), **per_response))) if ranked else None,
        pairs=None if ranked else tuple((i, j, draw(st.sampled_from((-1, 0, 1)))) for i, j in chosen),
        ratings=draw(st.none() | st.lists(st.none() | st.integers(1, 7), **per_response).map(tuple)),
        flags=draw(st.none() | st.lists(st.lists(TEXTS, max_size=2).map(tuple), **per_response).map(tuple)),
        all_bad=draw(st.booleans()),
        shown=draw(st.none() | st.permutations(range(k)).map(tuple)),
        labeler=draw(NAMES),
        user=draw(NAMES),
        propensity=draw(st.none() | st.floats(0, 1)),
        meta=draw(st.dictionaries(TEXTS, TEXTS, max_size=2)),
    )


@settings(max_examples=40)
@given(any_comparison())
def test_every_comparison_survives_its_json(original: Comparison) -> None:
    assert from_json(to_json(original)) == original


@settings(max_examples=40)
@given(any_comparison())
def test_pairs_follow_from_ranks_alone(original: Comparison) -> None:
    pairs = pairs_of(original)
    if original.ranks is None:
        assert tuple(pairs) == original.pairs
        return
    assert [(i, j) for i, j, _ in pairs] == list(combinations(range(len(original.responses)), 2))
    for i, j, outcome in pairs:
        assert outcome == (original.ranks[j] > original.ranks[i]) - (original.ranks[j] < original.ranks[i])


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"k": 1, "ranks": (1,)}, "fewer than two responses"),
        ({}, "give either ranks or pairs"),
        ({"ranks": (1, 2), "pairs": ((0, 1, 1),)}, "give either ranks or pairs"),
        ({"ranks": (1,)}, "ranks must be K whole numbers from 1 to K"),
        ({"ranks": (0, 1)}, "ranks must be K whole numbers from 1 to K"),
        ({"ranks": (1, True)}, "ranks must be K whole numbers from 1 to K"),
        ({"pairs": ()}, "pairs must be"),
        ({"pairs": ((0, 0, 1),)}, "pairs must be"),
        ({"pairs": ((0, 2, 1),)}, "pairs must be"),
        ({"pairs": ((0, 1, 2),)}, "pairs must be"),
        ({"ranks": (1, 2), "ratings": (7,)}, "ratings must have one entry per response"),
        ({"ranks": (1, 2), "ratings": (7, 8)}, "ratings must be whole numbers from 1 to 7"),
        ({"ranks": (1, 2), "flags": ((),)}, "flags must have one entry per response"),
        ({"ranks": (1, 2), "shown": (0, 0)}, "shown must be an order of the responses"),
        ({"ranks": (1, 2), "messages": ()}, "the prompt has no well-formed messages"),
        ({"ranks": (1, 2), "messages": ("role",)}, "the prompt has no well-formed messages"),
        ({"ranks": (1, 2), "responses": (Response("x"), Response(3))}, "a response is not text"),  # wrong on purpose
        ({"ranks": (1, 2), "responses": (Response("x"), Response("\ud83d"))}, "half of a character"),
        ({"ranks": (1, 2), "labeler": "\ud83d"}, "half of a character"),
        ({"ranks": (1, 2), "meta": {"note": ["\ud83d"]}}, "half of a character"),
        ({"ranks": (1, 2), "derived": "guesses"}, "derived must be `ratings`"),
        ({"ranks": (1, 2), "format": 2}, "format 2 is not 1"),
    ],
)
def test_what_is_no_comparison_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"^comparison a: {reason}"):
        comparison(**changes)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda row: row.pop("messages"), "no field `messages`"),
        (lambda row: row.update(responses=["text"]), "wrong shape"),
        (lambda row: row.update(ranks=5), "wrong shape"),
    ],
)
def test_a_line_of_another_shape_is_refused(change: Any, reason: str) -> None:
    row = golden()
    change(row)
    with pytest.raises(UserError, match=reason):
        from_json(json.dumps(row))
    for line in ("{", "[]"):
        with pytest.raises(UserError, match=r"not valid JSON|not a JSON object"):
            from_json(line)


def test_frozen_files_are_the_same_bytes_for_the_same_comparisons(tmp_path: Path) -> None:
    one, two = comparison(id="a", ranks=(1, 2)), comparison(id="b", ranks=(2, 1))
    digest, rows = freeze([two, one], tmp_path / "x" / "f.jsonl")
    assert rows == 2
    assert digest == hashlib.sha256((tmp_path / "x" / "f.jsonl").read_bytes()).hexdigest()
    assert freeze([one, two], tmp_path / "again.jsonl")[0] == digest
    assert read(tmp_path / "x" / "f.jsonl", digest) == ([one, two], {})
    with pytest.raises(UserError, match="does not have the recorded sha256"):
        read(tmp_path / "x" / "f.jsonl", "0" * 64)


def test_a_correction_leaves_out_what_it_supersedes(tmp_path: Path) -> None:
    old, new = comparison(id="a", ranks=(1, 2)), comparison(id="b", ranks=(2, 1), supersedes="a")
    assert freeze([old, new], tmp_path / "f.jsonl")[1] == 1
    assert read(tmp_path / "f.jsonl")[0] == [new]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(st.lists(any_comparison(), min_size=1, max_size=4, unique_by=lambda c: c.id))
def test_files_survive_every_text(tmp_path_factory: pytest.TempPathFactory, originals: list[Comparison]) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    freeze(originals, file)
    rows, skipped = read(file)
    assert sorted(rows, key=lambda c: c.id) == sorted(originals, key=lambda c: c.id)
    assert not skipped


def test_line_separators_inside_a_text_do_not_cut_the_row(tmp_path: Path) -> None:
    original = comparison(ranks=(1, 2), responses=(Response("a\u2028b\u0085c"), Response("d\re\x0cf")))
    freeze([original], tmp_path / "f.jsonl")
    assert read(tmp_path / "f.jsonl")[0] == [original]


def test_skipped_rows_are_counted_with_their_reasons(tmp_path: Path) -> None:
    good = asdict(comparison(ranks=(1, 2)))
    lines = [good, good | {"ranks": [1, 9]}, good | {"ranks": [0, 0]}, good | {"id": "b", "ranks": None}]
    file = tmp_path / "f.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n{\n")
    rows, skipped = read(file)
    assert len(rows) == 1
    assert skipped == {
        "ranks must be K whole numbers from 1 to K": 2,
        "give either ranks or pairs": 1,
        "not valid JSON": 1,
    }
    file.write_text("{\n")
    with pytest.raises(UserError, match=r"none of the 1 rows of .*f\.jsonl can be used \(1 x not valid JSON\)"):
        read(file)
    with pytest.raises(UserError, match=r"missing\.jsonl does not exist"):
        read(tmp_path / "missing.jsonl")


def test_a_copy_with_another_column_is_read_and_gzip_too(tmp_path: Path) -> None:
    original = comparison(ranks=(1, 2))
    row = json.dumps(asdict(original) | {"split": "train", "extra": {"x": 1}}) + "\n"
    (tmp_path / "f.jsonl").write_text(row + row.replace('"ranks": [1, 2]', '"ranks": [1.0, 2.0]'))
    assert read(tmp_path / "f.jsonl") == ([original, original], {})
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(row.encode()))
    assert read(tmp_path / "f.jsonl.gz") == ([original], {})
    half = row.replace('"r0"', '"\\ud83d"')
    (tmp_path / "f.jsonl").write_text(row + half)
    assert read(tmp_path / "f.jsonl")[1].total() == 1
