"""Rows of a local file or folder, or of a data set on the Hugging Face hub: the one way to read data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.files import exists, sha256_file
from training.artifacts.readers import columnar, delimited, folders, hub, json_text, plain_text
from training.artifacts.readers.lines import COLUMNAR, holds, kind_of, lines_of
from training.artifacts.skips import Skip

__all__ = ["SUFFIXES", "Skip", "Source", "file_rows", "kind_of", "open_source"]

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".ndjson")
HUB_ID = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<configuration>[\w.-]+))?(?:@(?P<split>[\w.-]+))?")
# A path may hold these signs itself, so what exists goes first.
LOCAL = [
    re.compile(rf"(?P<path>.+?){configuration}{split}", re.DOTALL)
    for split in ("", r"@(?P<split>[\w.-]+)")
    for configuration in ("", r":(?P<configuration>[\w.-]+)")
]
MOST_SPLITS = 20  # of a column `split`, to be named in an error

Row = Mapping[str, Any]


@dataclass
class Source:
    """An opened source.

    Attributes:
        name: as the user wrote it.
        files: the data files to read, one after another; none of a hub data set.
        split: the split that is read, where the source has several.
        splits: names of all splits that it is known to have.
    """

    name: str
    files: list[Path]
    split: str | None = None
    splits: list[str] = field(default_factory=list)
    documents: bool = False
    by_column: bool = False
    dataset: Any = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What is read, whatever the path it was named by."""
        return (self.name if self.dataset is not None else None, self.split, *(file.resolve() for file in self.files))

    def rows(self) -> Iterator[Row | Skip]:
        """One mapping per row, or a `Skip` in the place of a row that cannot be read.

        Plain text gives {"line": text}, or {"text": document} with `documents`.

        Raises:
            UserError: a file is damaged so that its rows cannot be separated. Rows before the damage have been
                yielded by then: a caller that collects them must not take a part of a file for the whole.
        """
        if self.dataset is not None:
            yield from hub.dataset_rows(self.dataset)
        elif self.by_column:
            yield from self._rows_of_split()
        else:
            for file in self.files:
                yield from file_rows(file, documents=self.documents)

    def mentions(self, column: str) -> bool:
        """Whether this name stands anywhere in the source: if not, no row has such a column."""
        if self.dataset is not None:
            return column in self.dataset.column_names
        return any(holds(file, column.encode()) for file in self.files)

    def sha256(self) -> str:
        """Of the bytes of a file; of several files' hashes in order; of a hub split's fingerprint."""
        if self.dataset is not None:
            digests = [str(self.dataset._fingerprint)]
        else:
            digests = [sha256_file(file) for file in self.files]
        if self.by_column:
            digests.append(f"split {self.split}")
        return (
            digests[0] if len(digests) == 1 and self.files else hashlib.sha256("\n".join(digests).encode()).hexdigest()
        )

    def _rows_of_split(self) -> Iterator[Row | Skip]:
        """Rows whose column `split` names the split."""
        others: set[str] = set()
        is_known = False
        for file in self.files:
            for row in file_rows(file, split=self.split, documents=self.documents):
                if isinstance(row, Skip):
                    yield row
                elif str(row.get("split")) == self.split:  # a number where the files write it as one
                    is_known = True
                    yield row
                elif row.get("split") is None:
                    yield Skip("no_split")
                elif len(others) < MOST_SPLITS:
                    others.add(str(row["split"]))
        if not is_known:
            path = self.name.removesuffix(f"@{self.split}")
            if not others:
                raise UserError(f"{path} has no splits and no column `split`: leave @{self.split} out")
            offers = ", ".join(f"{path}@{split}" for split in sorted(others))
            raise UserError(f"{path} has no split {self.split!r}: use one of {offers}")


def open_source(source: str, *, documents: bool = False) -> Source:
    """Find out what `source` names, without reading its rows.

    Args:
        source: `PATH_OR_ID[:configuration][@split]`. The split of a file is the value of its column `split`, or the
            name of one of its lists (JSON); of a folder, what its files' names contain. Where there are several
            and none is named, it is `train`.
        documents: read plain text as documents rather than as lines.

    Raises:
        UserError: it is neither readable data nor a possible hub id, or it does not say which of several parts.
    """
    path, configuration, split = _parts(source)
    if path is not None and path.is_file():
        if configuration is not None:
            raise UserError(f"{source}: a file has no configurations: leave :{configuration} out")
        if kind_of(path) not in SUFFIXES:
            raise UserError(f"{source} has an unknown format: use one of {', '.join(SUFFIXES)} (each also as .gz)")
        return Source(source, [path], split, documents=documents, by_column=split is not None)
    if path is not None and not path.is_dir():
        raise UserError(f"{source} is neither a file nor a folder: write its rows to a file and name that")
    if path is not None:
        return _open_folder(source, path, configuration, split, documents)
    match = HUB_ID.fullmatch(source)
    if match is None or kind_of(Path(match["name"])) in SUFFIXES:
        raise UserError(f"{source} does not exist: give the path of a local file or folder, or a hub data set id")
    datasets = hub.open_dataset(match["name"], match["configuration"])
    base = source.removesuffix(f"@{match['split']}")
    split = _select_split(base, list(datasets), match["split"])
    return Source(source, [], split, list(datasets), documents, dataset=datasets[split])


def file_rows(path: Path, *, split: str | None = None, documents: bool = False) -> Iterator[Row | Skip]:
    """Rows of one local file, in the format that its suffix names.

    Args:
        split: of a JSON file with several lists of rows, the one to read.
        documents: see `Source.rows`.
    """
    kind = kind_of(path)
    if kind in COLUMNAR:
        return columnar.columnar_rows(path, kind)
    if kind in (".jsonl", ".ndjson") and not json_text.begins_list(path):
        return json_text.json_lines(lines_of(path))
    if kind in (".json", ".jsonl", ".ndjson"):
        return json_text.json_rows(path, split)
    if kind == ".txt":
        return plain_text.text_documents(path) if documents else plain_text.text_lines(path)
    return delimited.tsv_rows(path) if kind == ".tsv" else delimited.csv_rows(path)


def _parts(source: str) -> tuple[Path | None, str | None, str | None]:
    """Local path, configuration and split; no path where nothing local has this name."""
    for pattern in LOCAL:
        match = pattern.fullmatch(source)
        if match and exists(path := Path(match["path"]).expanduser()):
            return path, match.groupdict().get("configuration"), match.groupdict().get("split")
    return None, None, None


def _open_folder(source: str, path: Path, configuration: str | None, split: str | None, documents: bool) -> Source:
    splits = folders.configured_splits(path, configuration, SUFFIXES)
    if not any(splits.values()):
        raise UserError(f"{source} holds no data file: give a folder with files of {', '.join(SUFFIXES)}")
    if list(splits) == ["train"] and split not in (None, "train"):  # no file's name contains a split: a column may
        return Source(source, splits["train"], split, documents=documents, by_column=True)
    name = _select_split(source.removesuffix(f"@{split}"), list(splits), split)
    return Source(source, splits[name], name, list(splits), documents)


def _select_split(source: str, splits: list[str], request: str | None) -> str:
    """The only split, the requested one, or `train`."""
    if request is None and len(splits) == 1:
        return splits[0]
    choice = request if request is None or request in splits else folders.SPLITS.get(request, request)
    if (choice or "train") in splits:
        return choice or "train"
    offers = ", ".join(f"{source}@{split}" for split in splits)
    fault = "has several splits and none is `train`" if request is None else f"has no split {request!r}"
    raise UserError(f"{source} {fault}: use one of {offers}")
