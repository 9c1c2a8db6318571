"""Data sets of the hub, out of the cache that `datasets` keeps of them: splits and configurations are offered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training.artifacts.errors import UserError
from training.artifacts.rows import Skip, open_source

pytestmark = pytest.mark.unit


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of data sets, in a process that is offline."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield tmp_path / "cache"
    datasets.enable_progress_bars()


def keep(cache: Path, repository: str, configuration: str, splits: dict[str, list[dict[str, Any]]]) -> None:
    """Put a data set into the cache, as if it had come from the hub."""
    import datasets

    folder = cache.parent / "source"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for split, rows in splits.items():
        datasets.Dataset.from_list(rows).to_json(folder / f"{split}.jsonl")
    files = {split: str(folder / f"{split}.jsonl") for split in splits}
    datasets.load_dataset("json", data_files=files, cache_dir=str(cache.parent / "build"))
    (built,) = (cache.parent / "build" / "json").glob("*/*/*/")
    target = cache / repository.replace("/", "___") / configuration / "0.0.0" / ("0" * 40)
    target.mkdir(parents=True)
    for file in built.iterdir():
        name = file.name.replace("json-", f"{repository.split('/')[1]}-", 1)
        text = file.read_bytes()
        if file.name == "dataset_info.json":
            text = text.replace(b'"config_name": "default"', f'"config_name": "{configuration}"'.encode())
        (target / name).write_bytes(text)
    shutil.rmtree(cache.parent / "build")


def read(source: str) -> list[Any]:
    return [row.code if isinstance(row, Skip) else row["a"] for row in open_source(source).rows()]


def test_splits(cache: Path) -> None:
    keep(cache, "owner/plain", "default", {"train": [{"a": "x"}, {"a": "nul\0"}, {"a": "y"}], "test": [{"a": "t"}]})
    assert read("owner/plain") == ["x", "null_character", "y"]
    assert read("owner/plain@test") == ["t"]
    with pytest.raises(UserError, match=r"has no split 'dev': use one of owner/plain@train, owner/plain@test$"):
        open_source("owner/plain@dev")
    train, test = open_source("owner/plain"), open_source("owner/plain@test")
    assert train.sha256() == open_source("owner/plain@train").sha256() != test.sha256()


def test_several_splits_without_train_are_offered(cache: Path) -> None:
    keep(cache, "owner/prefs", "default", {"train_prefs": [{"a": "x"}], "test_prefs": [{"a": "y"}]})
    assert read("owner/prefs@test_prefs") == ["y"]
    with pytest.raises(
        UserError, match=r"none is `train`: use one of owner/prefs@train_prefs, owner/prefs@test_prefs$"
    ):
        open_source("owner/prefs")


def test_configurations_are_offered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    keep(cache, "owner/several", "one", {"train": [{"a": "x"}]})
    keep(cache, "owner/several", "two", {"train": [{"a": "y"}]})
    assert read("owner/several:two@train") == ["y"]
    for source in ("owner/several", "owner/several:three"):
        with pytest.raises(UserError, match=r"one.*two.*: use one of owner/several:CONFIGURATION$"):
            open_source(source)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda repository: ["one", "two"])
    with pytest.raises(UserError, match=r": use one of owner/several:one, owner/several:two$"):
        open_source("owner/several")


def test_a_set_that_is_nowhere_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    with pytest.raises(UserError, match=r"owner/none could not be read from the Hugging Face hub"):
        open_source("owner/none")
    # An address that refuses connections: the same end as no network, without a look-up.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    initialise = huggingface_hub.hf_api.HfApi.__init__
    monkeypatch.setattr(
        huggingface_hub.hf_api.HfApi,
        "__init__",
        lambda self, *args, **kwargs: initialise(self, *args, endpoint="http://127.0.0.1:9", **kwargs),
    )
    with pytest.raises(UserError, match=r"owner/none is not a local path, and the Hugging Face hub did not give it"):
        open_source("owner/none")
