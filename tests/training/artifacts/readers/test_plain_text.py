"""Plain text: lines end with LF alone; documents at headings or blank lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.artifacts.readers import plain_text
from training.artifacts.rows import Skip, open_source

pytestmark = pytest.mark.unit

WIKITEXT = " \n = One = \n \n Text of one . \n \n = = Part = = \n \n a = b \n \n = Two = \n \n Text of two . \n"


def read(path: Path, content: bytes | str, documents: bool) -> list[Any]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    rows = open_source(str(path), documents=documents).rows()
    return [row.code if isinstance(row, Skip) else row["text" if documents else "line"] for row in rows]


def test_only_lf_ends_a_line(tmp_path: Path) -> None:
    text = "\ufeffone\u2028still\x0bone\x0cand\x85one\rone\r\n\n \t\ntwo"
    assert read(tmp_path / "a.txt", text, False) == ["one\u2028still\x0bone\x0cand\x85one\rone", "two"]


def test_lines_of_a_file_without_lf_end_with_cr(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", "\ufeffone\rtwo\r\rthree\r", False) == ["one", "two", "three"]
    assert read(tmp_path / "a.txt", "one\rtwo\n", False) == ["one\rtwo"]
    assert read(tmp_path / "a.txt", "one\rtwo\r\rthree", True) == ["one\ntwo", "three"]
    assert read(tmp_path / "a.txt", "one\r", False) == ["one"]


def test_a_bad_line_is_left_out_alone(tmp_path: Path) -> None:
    text = b"one\n\xfftwo\nthr\0ee\nfour\n"
    assert read(tmp_path / "a.txt", text, False) == ["one", "not_utf8", "null_character", "four"]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.artifacts.readers.lines.LONGEST", 10)
    assert read(tmp_path / "a.txt", "one\n" + "x" * 25 + "\nninechars\ntwo\n", False) == [
        "one",
        "too_long",
        "ninechars",
        "two",
    ]


def test_documents(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", WIKITEXT, True) == [
        "= One = \n \n Text of one . \n \n = = Part = = \n \n a = b",
        "= Two = \n \n Text of two .",
    ]
    assert read(tmp_path / "a.txt", "One\nstill one\n\n\nTwo\r\n\r\nThree", True) == ["One\nstill one", "Two", "Three"]
    assert read(tmp_path / "a.txt", b"One\nbad \xff\nstill one\n\nTwo\n", True) == ["not_utf8", "Two"]


def test_a_document_without_end_is_cut_at_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "LONGEST_DOCUMENT", 5)
    assert read(tmp_path / "a.txt", "abc\ndef\nghi\n", True) == ["abc\ndef", "ghi"]
