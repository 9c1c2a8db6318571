"""CSV as RFC 4180 has it, TSV without quoting; a stray quotation mark costs its own row and no other."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.artifacts.errors import UserError
from training.artifacts.rows import Skip, open_source

pytestmark = pytest.mark.unit


def read(path: Path, content: bytes | str) -> list[Any]:
    """The fields of each row, or the code for which it was refused."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [row.code if isinstance(row, Skip) else list(row.values()) for row in open_source(str(path)).rows()]


@pytest.mark.parametrize(
    "line, outcome",
    [
        ("q,yes, it is", "more_fields"),
        ("q,yes,", "more_fields"),
        ("q", "fewer_fields"),
        ('q,"yes, it is"', ["q", "yes, it is"]),
        ('q,"He said ""no"""', ["q", 'He said "no"']),
        ('"one\ntwo, three\r\n\nfour",a', ["one\ntwo, three\r\n\nfour", "a"]),
        ('What is "x"?,an "x"', ['What is "x"?', 'an "x"']),
        ('a 5" disk,b', "stray_quote"),
        ('"open,b', "stray_quote"),
        ('q,"open', "stray_quote"),
        ('"a"b,c', "stray_quote"),
        ('"a",b"', "stray_quote"),
        ("p,r", "repeated_header"),
        ("nul\0,b", "null_character"),
        (b"\xff,b", "not_utf8"),
        (b'"caf\xe9\nx",b', "not_utf8"),
        ("u\u2028v\x85,w\x0cx", ["u\u2028v\x85", "w\x0cx"]),
        ("a\rb,c", ["a\rb", "c"]),
        ("\ufeffa,b", ["a", "b"]),
        (",", ["", ""]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_row_is_read_or_left_out_alone(tmp_path: Path, line: str | bytes, outcome: Any, end: str) -> None:
    row = line if isinstance(line, bytes) else line.encode()
    before, after = f'p,r{end}"first, of all",1{end}'.encode(), f'{end}plain,2{end}"last, of\nall",3'.encode()
    expected = [["first, of all", "1"], outcome, ["plain", "2"], ["last, of\nall", "3"]]
    assert read(tmp_path / "a.csv", before + row + after) == expected


def test_a_lost_mark_does_not_swallow_rows_up_to_the_next_one(tmp_path: Path) -> None:
    rows = [f"question {i},answer {i}" for i in range(50)]
    rows[10] = 'question 10,"answer 10'
    rows[30] = '"question, 30","\nanswer 30"'  # its second field begins with a line end: a mark that could close one
    expected: list[Any] = [[f"question {i}", f"answer {i}"] for i in range(50)]
    expected[10] = "stray_quote"
    expected[30] = ["question, 30", "\nanswer 30"]
    assert read(tmp_path / "a.csv", "p,r\n" + "\n".join(rows)) == expected


def test_a_damaged_record_of_several_lines_is_one_row_left_out(tmp_path: Path) -> None:
    text = 'p,r\na,"one\ntwo "wrong" three\nfour",x\nb,c\n'
    assert read(tmp_path / "a.csv", text) == ["stray_quote", ["b", "c"]]


def test_a_field_that_never_closes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.artifacts.readers.delimited.LONGEST_RECORD", 100)
    text = 'p,r\na,"open\n' + "".join(f"b{i},c\n" for i in range(1000))
    assert read(tmp_path / "a.csv", text) == ["stray_quote", *([f"b{i}", "c"] for i in range(1000))]


TEXTS = st.text(st.sampled_from("ab ,\"\n\r\t;'é\u2028\x0c"), max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(TEXTS, TEXTS.map(lambda t: t + "x"), TEXTS), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], quoting: Any, end: str
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=quoting)
    writer.writerows([("p", "q", "r"), *rows])
    text = buffer.getvalue() if end == "\r\n" else _with_lf(rows, quoting)
    assert read(tmp_path_factory.getbasetemp() / "any.csv", text) == [list(row) for row in rows]


def _with_lf(rows: list[tuple[str, ...]], quoting: Any) -> str:
    """Each record as `csv` writes it, which quotes fields with a CR only where records end with one."""
    lines = []
    for row in [("p", "q", "r"), *rows]:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, quoting=quoting).writerow(row)
        lines.append(buffer.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


@pytest.mark.parametrize(
    "header, message",
    [
        ("a,b,a", r"has two columns `a`: rename one"),
        ('"a,b', r"the header of .*a\.csv has a quotation mark that is not closed: mend its first line"),
        (b"\xff,b", r"the header of .*a\.csv is not UTF-8 text: convert the file"),
        ("a,b\rc,d\re,f", r"end with CR alone: convert them to LF"),
        (b"\xff\xfea\0", r"is UTF-16 text: convert it"),
    ],
)
def test_a_header_that_cannot_be_used_is_one_sentence(tmp_path: Path, header: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.csv", (header if isinstance(header, bytes) else header.encode()) + b"\nx,y,z\n")


def test_columns_without_a_name_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeff, prompt ,\n0,hi,\n")
    assert list(open_source(str(tmp_path / "a.csv")).rows()) == [{"column 1": "0", "prompt": "hi", "column 3": ""}]


def test_a_tsv_row_is_a_line_and_quotation_marks_are_plain(tmp_path: Path) -> None:
    lines = ["p\tr", 'q\t"Yes', 'He said "no"\t""', "", "a\tb\tc", "alone", "p\tr", "u\u2028\tv\x0cw", "x\ty"]
    expected = [
        ["q", '"Yes'],
        ['He said "no"', '""'],
        "more_fields",
        "fewer_fields",
        "repeated_header",
        ["u\u2028", "v\x0cw"],
        ["x", "y"],
    ]
    assert read(tmp_path / "a.tsv", "\n".join(lines)) == expected
    assert read(tmp_path / "a.tsv", "\r\n".join(lines) + "\r\n") == expected
    assert read(tmp_path / "a.tsv", b"p\tr\n\xff\tb\n\0\tb\nc\td") == ["not_utf8", "null_character", ["c", "d"]]
