"""Parquet and Arrow: bad cells leave out their rows alone, damaged files are one sentence."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tests.support.zipped import zipped
from training.artifacts.errors import UserError
from training.artifacts.rows import Skip, open_source

pytestmark = pytest.mark.unit

ROWS = [
    {"p": "one", "turns": [{"role": "user", "content": "hi"}], "score": 1.5},
    {"p": None, "turns": [], "score": float("nan")},
]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def arrow(rows: list[dict[str, Any]], *, stream: bool) -> bytes:
    import pyarrow as pa

    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def read(path: Path, content: bytes) -> list[Any]:
    path.write_bytes(content)
    return [row.code if isinstance(row, Skip) else row for row in open_source(str(path)).rows()]


def test_rows_come_back_and_a_missing_number_is_none(tmp_path: Path) -> None:
    expected = [ROWS[0], {**ROWS[1], "score": None}]
    assert read(tmp_path / "a.parquet", parquet(ROWS)) == expected
    assert read(tmp_path / "a.parquet.gz", zipped(parquet(ROWS))) == expected
    assert read(tmp_path / "a.arrow", arrow(ROWS, stream=True)) == expected
    assert read(tmp_path / "a.arrow", arrow(ROWS, stream=False)) == expected


def test_a_bad_cell_leaves_out_its_row_alone(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [b"good", b"\xff", b"nul\0", b"\xed\xa0\xbd", b"last"]
    table = pa.table({"p": pa.array(cells, pa.binary()).view(pa.string())})
    pq.write_table(table, tmp_path / "b.parquet")
    content = (tmp_path / "b.parquet").read_bytes()
    assert read(tmp_path / "a.parquet", content) == [
        {"p": "good"},
        "not_utf8",
        "null_character",
        "not_utf8",
        {"p": "last"},
    ]


def test_a_value_beyond_python_leaves_out_its_row_alone(tmp_path: Path) -> None:
    import pyarrow as pa

    buffer = io.BytesIO()
    table = pa.table({"p": ["a", "b"], "when": pa.array([10**18, 0], pa.int64()).view(pa.timestamp("s"))})
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    rows = read(tmp_path / "a.arrow", buffer.getvalue())
    assert (rows[0], rows[1]["p"]) == ("unreadable_value", "b")


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.parquet", b"no parquet"),
        ("a.parquet", b""),
        ("a.parquet", parquet(ROWS)[:-20]),
        ("a.parquet.gz", zipped(parquet(ROWS))[:-9]),
        ("a.arrow", b"no arrow"),
        ("a.arrow", arrow(ROWS, stream=True)[:-8]),
        ("a.arrow", arrow(ROWS, stream=True)[:-60]),
        ("a.arrow", arrow(ROWS, stream=False)[:-60]),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(UserError, match=r"restore or write it again$"):
        read(tmp_path / name, content)


def test_a_time_zone_that_nobody_knows_leaves_out_its_rows(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"a": ["x", "y"], "at": pa.array([1, None], pa.timestamp("s", tz="Mars/Olympus"))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "a.arrow", sink.getvalue().to_pybytes()) == ["unreadable_value", {"a": "y", "at": None}]
