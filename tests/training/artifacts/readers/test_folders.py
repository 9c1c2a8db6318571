"""Local folders: files are read one after another, and their names tell the splits and configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.errors import UserError
from training.artifacts.rows import Skip, open_source

pytestmark = pytest.mark.unit


def fill(folder: Path, files: dict[str, str]) -> Path:
    """Files of one row each, whose text is given; a README.md is written as it is."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if name == "README.md" else json.dumps({"a": text}) + "\n")
    return folder


def read(source: Path | str) -> list[Any]:
    rows = open_source(str(source)).rows()
    return [row.code if isinstance(row, Skip) else row["a"] for row in rows]


@pytest.mark.parametrize(
    "names, splits",
    [
        (["train.jsonl", "test.jsonl"], {"train": ["train.jsonl"], "test": ["test.jsonl"]}),
        (["b.jsonl", "a.jsonl", "sub/c.jsonl"], {"train": ["a.jsonl", "b.jsonl", "sub/c.jsonl"]}),
        (
            [
                "data/train-00001-of-00002.jsonl",
                "data/train-00000-of-00002-0a1b.jsonl",
                "data/dev-00000-of-00001.jsonl",
            ],
            {
                "train": ["data/train-00000-of-00002-0a1b.jsonl", "data/train-00001-of-00002.jsonl"],
                "validation": ["data/dev-00000-of-00001.jsonl"],
            },
        ),
        (["data/train-00000.jsonl", "data/valid-00000.jsonl"], {"train": ["data/train-00000.jsonl"]}),
        (["my_train_set.jsonl", "my-test.set.jsonl"], {"test": ["my-test.set.jsonl"]}),
        (
            ["train/part-00000-of-00002.jsonl", "test/part-00000-of-00001.jsonl"],
            {"test": ["test/part-00000-of-00001.jsonl"]},
        ),
        (["trains.jsonl", "latest.jsonl"], {"train": ["latest.jsonl", "trains.jsonl"]}),  # words, not parts of words
        (
            ["harmless/train.jsonl", "helpful/train.jsonl", "red/red-team.jsonl", "harmless/test.jsonl"],
            {"train": ["harmless/train.jsonl", "helpful/train.jsonl"], "red-team": ["red/red-team.jsonl"]},
        ),
        (["train.jsonl", ".cache/old.jsonl", "dataset_infos.json", ".hidden.jsonl"], {"train": ["train.jsonl"]}),
    ],
)
def test_names_tell_the_splits(tmp_path: Path, names: list[str], splits: dict[str, list[str]]) -> None:
    fill(tmp_path, {name: name for name in names})
    for split, expected in splits.items():
        assert read(f"{tmp_path}@{split}") == expected
    assert read(tmp_path) == splits.get("train", read(tmp_path))


def test_splits_that_are_not_train_are_offered(tmp_path: Path) -> None:
    fill(tmp_path, {f"data/{split}-00000-of-00001.jsonl": split for split in ("train_prefs", "test_prefs")})
    assert read(f"{tmp_path}@train_prefs") == ["train_prefs"]
    offers = f"use one of {tmp_path}@test_prefs, {tmp_path}@train_prefs"
    with pytest.raises(UserError, match=f"has several splits and none is `train`: {offers}$"):
        open_source(str(tmp_path))
    with pytest.raises(UserError, match=f"has no split 'test': {offers}$"):
        open_source(f"{tmp_path}@test")


def test_a_column_tells_the_split_where_no_name_does(tmp_path: Path) -> None:
    rows = [{"a": "x", "split": "train"}, {"a": "y", "split": "dev"}, {"a": "z"}]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(f"{tmp_path}@dev") == ["y", "no_split"]
    assert read(tmp_path) == ["x", "y", "z"]


def test_files_of_one_folder_may_differ_in_their_columns(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps({"a": "text"}))
    (tmp_path / "three.csv").write_text("b,a\n1,c\n")
    (tmp_path / "two.json").write_text(json.dumps([{"a": [{"type": "text", "text": "part"}]}, 3]))
    (tmp_path / "requirements.txt").write_text("not a row\n")
    assert read(tmp_path) == ["text", "c", [{"type": "text", "text": "part"}], "not_an_object"]


CARD = """---
license: mit
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: [main/test-*, main/more-*]
- config_name: raw
  data_dir: raw
- config_name: flat
  data_files: flat.jsonl
---
# A data set
"""


def test_a_card_names_configurations(tmp_path: Path) -> None:
    names = ("main/train-0.jsonl", "main/test-0.jsonl", "main/more-1.jsonl", "raw/x.jsonl", "flat.jsonl")
    fill(tmp_path, {name: name for name in names} | {"README.md": CARD})
    assert read(f"{tmp_path}:main") == ["main/train-0.jsonl"]
    assert read(f"{tmp_path}:main@test") == ["main/more-1.jsonl", "main/test-0.jsonl"]
    assert read(f"{tmp_path}:raw") == ["raw/x.jsonl"]
    assert read(f"{tmp_path}:flat") == ["flat.jsonl"]
    with pytest.raises(UserError, match=f"several configurations: use one of {tmp_path}:main, {tmp_path}:raw"):
        open_source(str(tmp_path))
    with pytest.raises(UserError, match=f"several configurations: use one of {tmp_path}:main, {tmp_path}:raw"):
        open_source(f"{tmp_path}:other")


def test_subfolders_are_configurations_without_a_card(tmp_path: Path) -> None:
    fill(tmp_path, {"en/train.jsonl": "en", "de/train.jsonl": "de", "README.md": "# No table\n"})
    assert read(f"{tmp_path}:de") == ["de"]
    with pytest.raises(UserError, match="has no configuration 'fr': leave :fr out"):
        open_source(f"{tmp_path}:fr")


def test_what_datasets_saved_is_read(tmp_path: Path) -> None:
    import datasets

    parts = {
        split: datasets.Dataset.from_list([{"a": f"{split} {i}"} for i in range(3)]) for split in ("train", "test")
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved") == ["train 0", "train 1", "train 2"]
    assert read(f"{tmp_path / 'saved'}@test") == ["test 0", "test 1", "test 2"]


def test_a_folder_without_data_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(UserError, match=r"holds no data file: give a folder with files of \.jsonl"):
        open_source(str(tmp_path))


def test_a_damaged_file_of_a_folder_is_named(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jsonl": "a"})
    (tmp_path / "b.json").write_text("[{")
    with pytest.raises(UserError, match=r"b\.json is not valid JSON"):
        read(tmp_path)


@pytest.mark.parametrize("pattern", ["/etc/*.jsonl", "'**a.jsonl'", "''", "../*.jsonl", "b.jsonl"])
def test_a_readme_that_names_no_file_of_the_folder_is_one_sentence(tmp_path: Path, pattern: str) -> None:
    table = f"---\nconfigs:\n- config_name: x\n  data_files: {pattern}\n---\n"
    with pytest.raises(UserError, match="names data files that are not there"):
        open_source(str(fill(tmp_path, {"a.jsonl": "one", "README.md": table})))


def test_a_readme_whose_configurations_are_no_list_tells_nothing(tmp_path: Path) -> None:
    assert read(fill(tmp_path, {"a.jsonl": "one", "README.md": "---\nconfigs: 3\n---\n"})) == ["one"]


def test_a_link_to_nothing_is_not_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jsonl": "one"})
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"b\.jsonl is a link to nothing"):
        open_source(str(tmp_path))
