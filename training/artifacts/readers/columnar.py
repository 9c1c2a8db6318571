"""Rows of Parquet files and of Arrow files, the stream format of `datasets` included."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.readers.lines import GZIP, opened
from training.artifacts.readers.values import check_texts
from training.artifacts.skips import Skip

BATCH = 256  # rows in memory at once
# What a text that is not UTF-8, a date beyond Python's and a time zone that nobody knows raise.
UNREADABLE = (ValueError, OverflowError, KeyError)
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def columnar_rows(path: Path, kind: str) -> Iterator[dict[str, Any] | Skip]:
    """Rows of a file; a value that Python cannot hold leaves out its row alone.

    Args:
        kind: ".parquet" or ".arrow".

    Raises:
        UserError: the file is damaged: its rows are found by a table at its end.
    """
    import pyarrow

    try:
        with _seekable(path) as file:
            for batch in _parquet(file) if kind == ".parquet" else _arrow(file):
                if len(set(batch.schema.names)) < len(batch.schema.names):
                    raise UserError(f"{path} has two columns of one name: rename one")
                yield from _rows_of_batch(batch)
    except (pyarrow.ArrowException, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a readable {kind[1:]} file ({text}): restore or write it again") from None


@contextmanager
def _seekable(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    if not compressed:
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        with opened(path) as file:
            shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy


def _parquet(file: Any) -> Iterator[Any]:
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(file, buffer_size=2**20, page_checksum_verification=True)
    yield from parquet.iter_batches(batch_size=BATCH)


def _arrow(file: Any) -> Iterator[Any]:
    import pyarrow.ipc

    end = file.seek(0, 2)
    file.seek(max(0, end - len(END_OF_STREAM)))
    is_whole = file.read() == END_OF_STREAM  # pyarrow takes a stream that is cut between two batches for a whole one
    file.seek(0)
    try:
        batches: Iterator[Any] = iter(pyarrow.ipc.open_stream(file))
        if not is_whole:
            raise OSError("its end is missing")
    except pyarrow.ArrowInvalid:
        file.seek(0)
        table = pyarrow.ipc.open_file(file)
        batches = (table.get_batch(number) for number in range(table.num_record_batches))
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            yield batch.slice(start, BATCH)


def _rows_of_batch(batch: Any) -> Iterator[dict[str, Any] | Skip]:
    try:
        rows: list[dict[str, Any] | Skip] = batch.to_pylist()
    except UNREADABLE:
        rows = [_row_of(batch.slice(number, 1)) for number in range(batch.num_rows)]
    for row in rows:
        try:
            if isinstance(row, Skip):
                raise row
            check_texts(row)
        except Skip as skip:
            yield skip
        else:
            # What pandas writes for a missing value in a column of numbers.
            yield {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def _row_of(batch: Any) -> dict[str, Any] | Skip:
    try:
        row: dict[str, Any] = batch.to_pylist()[0]
    except UnicodeDecodeError:
        return Skip("not_utf8")
    except UNREADABLE:
        return Skip("unreadable_value")
    return row
