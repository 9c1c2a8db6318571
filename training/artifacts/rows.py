"""Rows of a local file or folder, or of a data set on the Hugging Face hub."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")


class Skip(Exception):
    """A row that cannot be used. `reason` is what is counted, so it names the kind of fault, not the row."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Source:
    """An opened source. `rows()` gives one mapping a row, or a `Skip` for a row that cannot be read.

    A row of plain text is {"line": text}.
    """

    name: str
    path: Path | None
    split: str | None
    stream: bool = False
    _digest: Any = field(default_factory=hashlib.sha256)

    def rows(self) -> Iterator[Mapping[str, Any] | Skip]:
        if self.path is None or self.path.is_dir():
            for row in _dataset_rows(self.name, self.split, self.stream):
                self._digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
                yield row
        elif self.split is None:
            yield from file_rows(self.path)
        else:
            yield from _rows_of_split(self.path, self.split)

    def sha256(self) -> str:
        """Of the file's bytes; of the rows read so far, as JSON, where the source is no file."""
        if self.path is not None and self.path.is_file():
            return sha256_file(self.path)
        return str(self._digest.hexdigest())


def open_source(source: str, split: str | None = None, *, stream: bool = False) -> Source:
    """Find out what `source` names.

    Args:
        stream: read a hub data set over the network as rows are asked for, rather than download all of it first.

    Raises:
        UserError: it is neither a readable path nor a possible hub id.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return Source(source, path, split, stream)
    if path.is_file():
        if kind_of(path) not in SUFFIXES:
            raise UserError(f"{source} has an unknown format: use one of {', '.join(SUFFIXES)} (each also as .gz)")
        return Source(source, path, split, stream)
    if kind_of(path) in SUFFIXES or not HUB_ID.fullmatch(source):
        raise UserError(f"{source} does not exist: give the path of a local file or folder, or a hub data set id")
    return Source(source, None, split, stream)


def kind_of(path: Path) -> str:
    """The suffix that tells the format: `.jsonl` for `a.jsonl` and `a.jsonl.gz`."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def file_rows(path: Path) -> Iterator[Mapping[str, Any] | Skip]:
    """Rows of one local file, its format told by its suffix."""
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _parquet_rows(path)
    elif kind == ".jsonl":
        yield from _json_lines(_lines(path))
    elif kind == ".json":
        yield from _json_rows(path)
    elif kind == ".txt":
        yield from ({"line": line} for line in read_text(path).splitlines() if line.strip())
    else:
        csv.field_size_limit(sys.maxsize)
        yield from csv.DictReader(io.StringIO(read_text(path)), delimiter="\t" if kind == ".tsv" else ",")


def read_text(path: Path) -> str:
    """The whole of a text file. Raises `UserError` if it is not UTF-8."""
    try:
        with _open(path) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: convert it, for example with iconv -t utf-8") from None
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): check the file") from None


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with _open(path) as file:
            yield from file
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): check the file") from None


def _json_lines(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any] | Skip]:
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except ValueError:  # both not UTF-8 and not JSON
            yield Skip("the line is not valid JSON")
            continue
        yield row if isinstance(row, dict) else Skip("the line is not a JSON object")


def _json_rows(path: Path) -> Iterator[Mapping[str, Any] | Skip]:
    """A JSON list of objects, an object that holds one such list, or JSON lines under the name .json."""
    text = read_text(path)
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise UserError(f"{path} is not valid JSON ({error}): mend it, or use one JSON object a line") from None
        yield from _json_lines(text.encode().splitlines())
        return
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else [whole]
    for row in whole if isinstance(whole, list) else [whole]:
        yield row if isinstance(row, dict) else Skip("the entry is not a JSON object")


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable parquet file ({error}): check or write it again") from None


def _rows_of_split(path: Path, split: str) -> Iterator[Mapping[str, Any] | Skip]:
    seen: set[str] = set()
    for row in file_rows(path):
        if isinstance(row, Skip) or row.get("split") == split:
            yield row
        elif "split" not in row:
            raise UserError(f"{path} has no column `split`: leave --split out, or give a file of that split alone")
        seen.add("" if isinstance(row, Skip) else str(row.get("split")))
    if split not in seen:
        raise UserError(f"{path} has no split {split!r}: use one of {', '.join(sorted(seen - {''}))}")


def _dataset_rows(name: str, split: str | None, stream: bool) -> Iterator[Mapping[str, Any]]:
    """Rows of a hub data set (`owner/name`, or `owner/name:configuration`) or of a local folder in the same layout."""
    import datasets

    local = Path(name).expanduser()
    repository, _, configuration = (str(local), "", "") if local.is_dir() else name.partition(":")
    try:
        if not local.is_dir():
            _ask_hub(repository)
        found = datasets.load_dataset(repository, configuration or None, streaming=stream or local.is_dir())
        chosen = _choose_split(name, list(found), split)
        yield from found[chosen]
    except (OSError, datasets.exceptions.DatasetsError) as error:
        if local.is_dir():
            raise UserError(f"{name} is not a folder that `datasets` can load ({error}): give a data file") from None
        raise UserError(
            f"{name} could not be read from the Hugging Face hub ({type(error).__name__}): "
            "give a local file, or try again"
        ) from None
    except ValueError as error:  # a missing or unknown configuration: the library's message lists them
        raise UserError(f"{name}: {error} (write it as `id:configuration`)") from None


def _ask_hub(repository: str) -> None:
    """Raise `UserError` at once if the hub does not give this data set; `datasets` retries for half a minute."""
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:  # then `datasets` reads its cache
        return
    try:
        huggingface_hub.HfApi().dataset_info(repository, timeout=10)
    except Exception as error:  # its transport library, and so the errors, differ between versions
        raise UserError(
            f"{repository} is no local path, and the Hugging Face hub did not give it ({type(error).__name__}): "
            "give a local file, or check the id, the network and HF_TOKEN"
        ) from None


def _choose_split(name: str, splits: list[str], wanted: str | None) -> str:
    if wanted is None and len(splits) == 1:
        return splits[0]
    if (wanted or "train") in splits:
        return wanted or "train"
    raise UserError(f"{name} has no split {wanted or 'train'!r}: use --split with one of {', '.join(splits)}")
