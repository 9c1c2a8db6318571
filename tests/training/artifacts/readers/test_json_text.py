"""JSON lines and JSON files: a bad row is left out alone, and what was damaged is told by its code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.errors import UserError
from training.artifacts.rows import Skip, open_source

pytestmark = pytest.mark.unit

GOOD = [{"a": "first"}, {"a": "last"}]


def read(path: Path, content: bytes | str) -> list[Any]:
    """Rows as they are, refused ones as their code."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [row.code if isinstance(row, Skip) else row for row in open_source(str(path)).rows()]


@pytest.mark.parametrize(
    "line, code",
    [
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a": "\xed\xa0\xbd"}', "not_utf8"),
        (b'{"a": "\0"}', "null_character"),
        (b'{"a": "b\\u0000"}', "null_character"),
        (b'{"a": "half \\ud83d"}', "half_character"),
        (b'{"a": [{"\\uDE00": 1}]}', "half_character"),
        (b'{"a": "cut', "not_json"),
        (b'{"a": "tab\there"}', "not_json"),
        (b'{"a": 1} and more', "not_json"),
        (b"\xff\xfe\x00", "not_utf8"),
        (b"12", "not_an_object"),
        (b"null", "not_an_object"),
        (b'["a"]', "not_an_object"),
        (b"1 2 3", "not_json"),
        (b'{"a": NaN}', "not_a_number"),
        (b'{"a": -Infinity}', "not_a_number"),
        (b'{"a": 1e999}', "not_a_number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not_a_number"),
        (b'{"a": "x", "a": "y"}', "repeated_key"),
        (b'{"b": [{"a": "x", "a": "y"}]}', "repeated_key"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "too_deep"),
    ],
)
def test_a_bad_row_is_left_out_alone(tmp_path: Path, line: bytes, code: str) -> None:
    first, last = (json.dumps(row).encode() for row in GOOD)
    assert read(tmp_path / "a.jsonl", first + b"\n" + line + b"\n" + last) == [GOOD[0], code, GOOD[1]]
    assert read(tmp_path / "a.json", b"\r\n".join([first, line, last, first])) == [GOOD[0], code, GOOD[1], GOOD[0]]


@pytest.mark.parametrize(
    "entry, code",
    [
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a": "\0"}', "not_json"),
        (b'{"a": "half \\ud83d"}', "half_character"),
        (b"12", "not_an_object"),
        (b'{"a": NaN}', "not_a_number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not_a_number"),
        (b'{"a": "x", "a": "y"}', "repeated_key"),
        (b'{"a": ' + b"[" * 5000 + b'"]"' + b"]" * 5000 + b"}", "too_deep"),
    ],
)
def test_a_bad_entry_of_a_list_is_left_out_alone(tmp_path: Path, entry: bytes, code: str) -> None:
    text = b'[{"a": "first"},' + entry + b',\n {"a": "last"}]'
    assert read(tmp_path / "a.json", text) == [GOOD[0], code, GOOD[1]]
    assert read(tmp_path / "b.json", b'{"version": 1, "rows": ' + text + b"}") == [GOOD[0], code, GOOD[1]]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "x\u2028y"}\n{"a": "p\x85q"}\n',
        '{"a": "x\u2028y"}\r\n\r\n{"a": "p\x85q"}',
        '\ufeff{"a": "x\u2028y"}\n\ufeff{"a": "p\x85q"}\n',
        '{"a": "x\u2028y"}{"a": "p\x85q"}\n',
        '{"a": "x\u2028y"}\r{"a": "p\x85q"}\r',
        '  {"a":\t"x\\u2028y"} \n {"a": "p\\u0085q"}',
    ],
    ids=["lf", "crlf", "byte order marks", "a lost line end", "cr alone", "spaces and escapes"],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson"])
def test_only_a_value_s_end_ends_a_row(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path / name, text) == [{"a": "x\u2028y"}, {"a": "p\x85q"}]


def test_a_line_that_is_cut_takes_no_part_of_the_next(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", '{"a": "x\n{"a": "last"}\n{"a": 1}{"a": 2') == ["not_json", GOOD[1], "not_json"]


@pytest.mark.parametrize(
    "text, rows",
    [
        ("", []),
        ("[]", []),
        ('{"a": "first"}', GOOD[:1]),
        (json.dumps(GOOD, indent=2), GOOD),
        (json.dumps({"n": 2, "columns": ["a"], "data": GOOD}), GOOD),
        ("\n".join(json.dumps(row, indent=2) for row in GOOD), GOOD),  # as jq writes them
        (json.dumps({"prompt": "p", "responses": ["x", "y"]}), [{"prompt": "p", "responses": ["x", "y"]}]),
        (json.dumps({"train": GOOD, "test": [{"a": "t"}]}), [{**row, "split": "train"} for row in GOOD]),
    ],
)
def test_layouts_of_a_json_file(tmp_path: Path, text: str, rows: list[Any]) -> None:
    assert read(tmp_path / "a.json", text) == rows


def test_several_lists_are_splits(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"easy": GOOD, "hard": [{"a": "h"}, 3]}))
    with pytest.raises(UserError, match=rf"several lists of rows: use one of {path}@easy, {path}@hard"):
        list(open_source(str(path)).rows())
    rows = list(open_source(f"{path}@hard").rows())
    assert rows[0] == {"a": "h", "split": "hard"}
    assert isinstance(rows[1], Skip)
    with pytest.raises(UserError, match=rf"has no split 'dev': use one of {path}@easy, {path}@hard"):
        list(open_source(f"{path}@dev").rows())


@pytest.mark.parametrize(
    "text, place",
    [
        ('[{"a": "first"}, {"a": "cut', "line 1, column 24"),
        ('[{"a": "first"}\n {"a": "last"}]', "line 2, column 2"),
        ('[{"a": "first"}, {"a": "x}, {"a": "last"}]', "line 1, column 31"),
        ('{"data": [{"a": 1}, ]}', "line 1, column 21"),
        ('[{"a": "first"}] trailing', "line 1, column 18"),
        ('{"a": ', "line 1, column 7"),
        ('[{"a": ' + "[" * 5000, "line 1, column 2"),
    ],
)
def test_a_broken_list_is_one_sentence_with_the_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(UserError, match=rf"a\.json is not valid JSON \({place}\): mend it there, or write one JSON"):
        read(tmp_path / "a.json", text)
