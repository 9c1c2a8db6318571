"""What every loader returns: typed records, and how many rows were left out for which reason."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.progress import track

from training.artifacts.errors import UserError
from training.artifacts.rows import Skip, open_source

T = TypeVar("T")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Records of one source.

    Attributes:
        records: the usable rows, in the source's order.
        sha256: of the file's bytes; of the rows as JSON where the source is a folder or on the hub.
        rows: rows read: used and skipped together.
        skipped: reason -> number of rows left out for it.
        source: the path or hub id as it was given.
    """

    records: list[T]
    sha256: str
    rows: int
    skipped: Counter[str]
    source: str

    def summary(self) -> dict[str, Any]:
        """What a checkpoint's manifest keeps of its data: path, sha256, rows, and skipped rows by reason."""
        return {"path": self.source, "sha256": self.sha256, "rows": self.rows, "skipped": dict(self.skipped)}

    def without(self, reason_of: Callable[[T], str | None]) -> Loaded[T]:
        """Leave out the records that `reason_of` gives a reason for, and count them.

        Raises:
            UserError: nothing is left.
        """
        reasons = [reason_of(record) for record in self.records]
        kept = [record for record, reason in zip(self.records, reasons, strict=True) if reason is None]
        left = replace(self, records=kept, skipped=self.skipped + Counter(r for r in reasons if r is not None))
        left.require_records()
        return left

    def require_records(self) -> None:
        """Raise `UserError` with the commonest reasons if no record is left."""
        if self.records:
            return
        if not self.rows:
            raise UserError(f"{self.source} is empty: give a source with at least one row")
        reasons = "; ".join(f"{count} x {reason}" for reason, count in self.skipped.most_common(3))
        raise UserError(f"none of the {self.rows} rows of {self.source} can be used ({reasons}): mend or replace them")


def load(
    source: str,
    parse: Callable[[Row], T],
    *,
    needs: str,
    split: str | None = None,
    limit: int | None = None,
    regroup: Callable[[Iterable[Row | Skip]], Iterable[Row | Skip]] = iter,
) -> Loaded[T]:
    """Read a source row by row.

    Args:
        parse: makes a record of a row, or raises `Skip` with the reason.
        needs: the columns that this kind of data needs, for the error when no row has them.
        split: of a hub data set or folder, its split; of a file, the rows whose `split` column has this value.
        limit: stop after this many records.
        regroup: makes rows of which each is one record, where records are spread over rows.

    Raises:
        UserError: the source is missing, cannot be read, or has no usable row.
    """
    opened = open_source(source, split, stream=limit is not None)
    records: list[T] = []
    skipped: Counter[str] = Counter()
    columns: dict[str, None] = {}
    rows = 0
    console = Console(stderr=True)
    hidden = not sys.stderr.isatty()
    for row in track(regroup(opened.rows()), f"reading {source}", console=console, transient=True, disable=hidden):
        if limit is not None and len(records) >= limit:
            break
        rows += 1
        try:
            if isinstance(row, Skip):
                raise row
            columns |= dict.fromkeys(row)
            records.append(parse(row))
        except Skip as skip:
            skipped[skip.reason] += 1
    if rows and not records and skipped[UNKNOWN_COLUMNS] == rows:
        found = "is plain text" if list(columns) == ["line"] else f"has the columns {', '.join(list(columns)[:12])}"
        raise UserError(f"{source} {found}; this kind of data needs {needs}")
    loaded = Loaded(records, opened.sha256(), rows, skipped, source)
    loaded.require_records()
    return loaded


UNKNOWN_COLUMNS = "no column that is known for this kind of data"
