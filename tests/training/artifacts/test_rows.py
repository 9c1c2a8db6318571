"""What a source's name means: `PATH_OR_ID[:configuration][@split]`; every format gives the same rows."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file
from training.artifacts.rows import Skip, open_source

pytestmark = pytest.mark.unit

ROWS = [{"prompt": 'one, "two" three', "response": "vier – fünf"}, {"prompt": "a", "response": 'b\u2028"c'}]


KINDS = ("jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow")


def write_rows(folder: Path, kind: str, compressed: bool) -> Path:
    """ROWS as a file of this kind."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    elif kind == "arrow":
        with pa.ipc.new_stream(file, pa.Table.from_pylist(ROWS).schema) as writer:
            writer.write_table(pa.Table.from_pylist(ROWS))
    elif kind == "csv":
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([list(ROWS[0]), *(row.values() for row in ROWS)])
    elif kind == "tsv":
        file.write_text("".join("\t".join(cells) + "\n" for cells in [list(ROWS[0]), *(r.values() for r in ROWS)]))
    else:
        file.write_text(json.dumps(ROWS) if kind == "json" else "".join(json.dumps(row) + "\n" for row in ROWS))
    if compressed:
        file = file.with_suffix(file.suffix + ".gz")
        file.write_bytes(gzip.compress(file.with_suffix("").read_bytes()))
    return file


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_format_gives_the_same_rows(tmp_path: Path, kind: str, compressed: bool) -> None:
    file = write_rows(tmp_path, kind, compressed)
    assert list(open_source(str(file)).rows()) == ROWS
    assert open_source(str(file)).sha256() == sha256_file(file)


def test_reading_does_not_hold_the_file(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "a.jsonl").write_text('{"a": "' + "x" * 1000 + '"}\n' * 1)
    line = '{"a": "' + "x" * 1000 + '"}\n'
    (tmp_path / "a.jsonl").write_text(line * 4_000)  # 4 MB
    (tmp_path / "a.csv").write_text("a,b\n" + ("x" * 1000 + ",y\n") * 4_000)
    (tmp_path / "a.txt").write_text(("x" * 1000 + "\n") * 4_000)
    for name in ("a.jsonl", "a.csv", "a.txt"):
        tracemalloc.start()
        assert sum(1 for _ in open_source(str(tmp_path / name)).rows()) == 4_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000, f"{name}: {peak:,} bytes"


def test_a_split_of_a_file_goes_by_its_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "a", "split": "train"}\n{"t": "b", "split": "test"}\nbad\n{"t": "c"}\n')
    rows = [row.code if isinstance(row, Skip) else row["t"] for row in open_source(f"{path}@test").rows()]
    assert rows == ["b", "not_json", "no_split"]
    assert open_source(f"{path}@test").sha256() not in (open_source(f"{path}@train").sha256(), sha256_file(path))
    with pytest.raises(UserError, match=rf"{path} has no split 'dev': use one of {path}@test, {path}@train$"):
        list(open_source(f"{path}@dev").rows())
    path.write_text('{"t": "a"}\n')
    with pytest.raises(UserError, match=rf"{path} has no splits and no column `split`: leave @test out"):
        list(open_source(f"{path}@test").rows())


def test_what_exists_is_meant_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a@b.jsonl", "a:b.jsonl", "c.jsonl@d/e.jsonl", "owner/name/train.jsonl"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(json.dumps({"t": name, "split": "x"}))
    expected = {
        "a@b.jsonl": "a@b.jsonl",
        "a@b.jsonl@x": "a@b.jsonl",
        "a:b.jsonl": "a:b.jsonl",
        "c.jsonl@d": "c.jsonl@d/e.jsonl",
        "owner/name": "owner/name/train.jsonl",
        "owner/name@train": "owner/name/train.jsonl",
    }
    texts: dict[str, Any] = {}
    for source in expected:
        (row,) = open_source(source).rows()
        assert not isinstance(row, Skip)
        texts[source] = row["t"]
    assert texts == expected


def test_a_folder_of_one_file_has_its_hash_and_one_of_several_a_hash_of_hashes(tmp_path: Path) -> None:
    (tmp_path / "train-0.jsonl").write_text('{"a": 1}\n')
    assert open_source(str(tmp_path)).sha256() == sha256_file(tmp_path / "train-0.jsonl")
    (tmp_path / "train-1.jsonl").write_text('{"a": 2}\n')
    digests = [hashlib.sha256(text).hexdigest() for text in (b'{"a": 1}\n', b'{"a": 2}\n')]
    assert open_source(str(tmp_path)).sha256() == hashlib.sha256("\n".join(digests).encode()).hexdigest()


@pytest.mark.parametrize(
    "source, message",
    [
        (
            "missing.jsonl",
            r"missing\.jsonl does not exist: give the path of a local file or folder, or a hub data set id",
        ),
        ("missing.csv.gz@train", "does not exist"),
        ("some/path/to/a/folder", "does not exist"),
        ("owner/name:a:b", "does not exist"),
        ("", "does not exist"),
    ],
)
def test_a_name_of_nothing_is_one_sentence(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(source)


def test_an_unknown_format_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<a/>")
    with pytest.raises(UserError, match=r"a\.xml has an unknown format: use one of \.jsonl, .*\(each also as \.gz\)"):
        open_source(str(tmp_path / "a.xml"))
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(UserError, match=r"a file has no configurations: leave :main out"):
        open_source(f"{tmp_path}/a.jsonl:main")


def test_a_split_may_be_a_number(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1, "split": 0}\n{"a": 2, "split": 1}\n')
    assert list(open_source(f"{file}@1").rows()) == [{"a": 2, "split": 1}]


@pytest.mark.parametrize("name", ["a" * 300, "a" * 5000, "a.jsonl@" + "b" * 300, "a/" + "b" * 300 + ".jsonl"])
def test_a_name_that_no_file_can_have_does_not_exist(name: str) -> None:
    with pytest.raises(
        UserError,
        match=r"does not exist|the Hugging Face hub did not give it|could not be read from the Hugging Face hub",
    ):
        open_source(name)


def test_a_device_is_no_source() -> None:
    with pytest.raises(UserError, match="is neither a file nor a folder"):
        open_source("/dev/null")


def test_a_list_of_rows_is_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    for text in (json.dumps(ROWS), json.dumps(ROWS, indent=1), "\ufeff \n" + json.dumps(ROWS)):
        file = tmp_path / "a.jsonl"
        file.write_text(text)
        assert list(open_source(str(file)).rows()) == ROWS
    file.write_text("[1]\n" + "".join(json.dumps(row) + "\n" for row in ROWS))
    (bad, *rows) = open_source(str(file)).rows()
    assert isinstance(bad, Skip)
    assert rows == ROWS


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_no_row_has_is_mentioned_nowhere(tmp_path: Path, kind: str, compressed: bool) -> None:
    source = open_source(str(write_rows(tmp_path, kind, compressed)))
    assert source.mentions("response")
    assert not source.mentions("supersedes")


def test_a_mention_may_lie_across_two_parts_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.artifacts.readers.lines.PART", 4)
    file = tmp_path / "a.jsonl"
    for start in range(9):
        file.write_text("x" * start + "response" + "y" * 9)
        assert open_source(str(file)).mentions("response")
        assert not open_source(str(file)).mentions("respond")
