"""Data files of a local folder, by split, as the hub's layouts name them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.readers.lines import kind_of

DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "metadata.json"}
SHARD = re.compile(r"(?P<name>[\w.]+?)-\d{2,}-of-\d{2,}\b")  # data/train_prefs-00000-of-00003-0a1b2c.parquet
NO_SPLIT = {"data", "part", "shard", "chunk"}  # what shards are called in files of one split
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


def data_files(folder: Path, kinds: Sequence[str]) -> list[Path]:
    """Files with a suffix of `kinds` below a folder, by name; plain text only where there is nothing else.

    Hidden files and `datasets`' own descriptions are not data; neither is a README.txt beside data files.

    Raises:
        UserError: a link leads to nothing: its rows would be missing unseen.
    """
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if (path.is_file() or path.is_symlink())
        and kind_of(path) in kinds
        and path.name not in DESCRIPTIONS
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        and not path.name.startswith("cache-")
    ]
    data = [path for path in files if kind_of(path) != ".txt"] or files
    for path in data:
        if not path.exists():
            raise UserError(f"{path} is a link to nothing: restore the file, or remove the link")
    return [path for path in data if path.is_file()]


def splits_of(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by split. Where no name has one, all are `train`; beside files that have one, any other file is a split."""
    named: dict[str, list[Path]] = {}
    for path in files:
        named.setdefault(_split_of(path.relative_to(folder)) or "", []).append(path)
    unnamed = named.pop("", [])
    if not named:
        return {"train": unnamed} if unnamed else {}
    for path in unnamed:
        named.setdefault(path.name.split(".")[0], []).append(path)
    return named


def configured_splits(folder: Path, configuration: str | None, kinds: Sequence[str]) -> dict[str, list[Path]]:
    """Data files by split of one configuration, as the folder's README.md names them, or else its subfolders.

    Raises:
        UserError: there are several configurations and none is named, or the named one is missing.
    """
    entries = _configurations(folder)
    subfolder = folder / (configuration or "")
    if not entries:
        if configuration is not None and not subfolder.is_dir():
            raise UserError(f"{folder} has no configuration {configuration!r}: leave :{configuration} out")
        return splits_of(subfolder, data_files(subfolder, kinds))
    default = next((name for name, entry in entries.items() if entry.get("default") or name == "default"), None)
    name = configuration or (next(iter(entries)) if len(entries) == 1 else default)
    if name not in entries:
        offers = ", ".join(f"{folder}:{entry}" for entry in entries)
        raise UserError(f"{folder} has several configurations: use one of {offers}")
    entry = entries[name]
    files = data_files(folder / str(entry.get("data_dir", "")), kinds)
    patterns = _patterns(entry.get("data_files"))
    if not patterns:
        return splits_of(folder / str(entry.get("data_dir", "")), files)
    paths_of = {split: _matching(folder, globs) for split, globs in patterns.items()}
    splits = {split: [path for path in files if path in paths] for split, paths in paths_of.items()}
    if files and not any(splits.values()):
        globs = ", ".join(glob for each in patterns.values() for glob in each)
        raise UserError(f"{folder / 'README.md'} names data files that are not there ({globs}): mend it, or remove it")
    return splits


def _matching(folder: Path, globs: Sequence[str]) -> set[Path]:
    """Files of a folder that a pattern matches; none for what is not a pattern of files below it."""
    paths: set[Path] = set()
    for glob in globs:
        with contextlib.suppress(ValueError, NotImplementedError):
            paths.update(folder.glob(glob))
    return paths


def _split_of(path: Path) -> str | None:
    """The split in a file's name, or else in the names of its folders, the nearest first."""
    shard = SHARD.match(path.name)
    if shard and shard["name"] not in NO_SPLIT:
        return SPLITS.get(shard["name"], shard["name"])
    for part in (path.name, *reversed(path.parts[:-1])):
        words = re.split(r"[^a-z]+", part.lower())
        split = next((SPLITS[word] for word in words if word in SPLITS), None)
        if split:
            return split
    return None


def _configurations(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Configurations by name, of the table at the head of a data set's README.md."""
    import yaml

    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    head = re.match(r"---\r?\n(.*?)\n---", readme.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        table = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError as error:
        fault = " ".join(str(error).split())[:200]
        raise UserError(f"the table at the head of {readme} is not valid YAML ({fault}): mend it") from None
    entries = table.get("configs") if isinstance(table, Mapping) else None
    listed = entries if isinstance(entries, list) else []
    return {str(e.get("config_name", "default")): e for e in listed if isinstance(e, Mapping)}


def _patterns(data_files: Any) -> dict[str, list[str]]:
    """Globs by split of a configuration's `data_files`: a pattern, a list, or entries with `split` and `path`."""
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if isinstance(data_files, Mapping):
        return {str(split): _texts(globs) for split, globs in data_files.items()}
    entries = data_files if isinstance(data_files, list) else []
    if all(isinstance(entry, Mapping) for entry in entries):
        return {str(entry.get("split", "train")): _texts(entry.get("path")) for entry in entries}
    return {"train": _texts(entries)}


def _texts(value: Any) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else [str(value)]
