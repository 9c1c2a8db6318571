"""Rows of a source as typed records, with a count of what was left out and of unread columns."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, Generic, TypeVar

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import exists
from training.artifacts.rows import open_source
from training.artifacts.skips import UNKNOWN_COLUMNS, Skip

__all__ = ["UNKNOWN_COLUMNS", "Loaded", "Reading", "Row", "TrackedRow", "load", "parse_mixture"]

T = TypeVar("T")
Row = Mapping[str, Any]
Regroup = Callable[[Iterator[Row | Skip]], Iterator[Row | Skip]]
MOST_COLUMNS, MOST_REASONS = 8, 3  # to be named in an error
MOST_WEIGHT = 1000  # uses of a row per pass; their numbers are held in memory
ROWS_PER_ADVANCE = 500  # a bar moved for every row would take longer than the reading


class TrackedRow(Mapping[str, Any]):
    """A row that knows which of its columns were looked at.

    Attributes:
        number: position in the source, from 0, unusable rows counted.
        keys_read: columns that were looked up. Copying the whole row looks up all of them.
        filled: columns that hold a value.
    """

    __slots__ = ("_values", "filled", "keys_read", "number")

    def __init__(self, values: Row, number: int) -> None:
        self._values = values
        self.number = number
        self.keys_read: set[str] = set()
        self.filled = {name for name, value in values.items() if has_value(value)}

    def __getitem__(self, key: str) -> Any:
        self.keys_read.add(key)
        return self._values[key]

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_read.add(key)
        return self._values.get(key, default)

    def peek(self, key: str) -> Any:
        """The value of a column, without counting it as read."""
        return self._values.get(key)

    def __contains__(self, key: object) -> bool:
        self.keys_read.add(str(key))
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def unread(self) -> list[str]:
        """Columns that hold a value and were not looked up."""
        return [name for name in self._values if name in self.filled and name not in self.keys_read]


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Records of one source.

    Attributes:
        records: the usable rows, in the source's order.
        sha256: see `Source.sha256`.
        rows: rows read (after regrouping): used, left out, and passed over by `limit`.
        skipped: reason -> number of rows left out for it.
        source: the path or hub id as the user wrote it.
        ignored: column -> number of used rows in which it held a value that nothing looked at.
    """

    records: list[T]
    sha256: str
    rows: int
    skipped: Counter[str]
    source: str
    ignored: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """What a checkpoint's manifest keeps of its data: path, sha256, rows, and skipped rows by reason."""
        return {"path": self.source, "sha256": self.sha256, "rows": self.rows, "skipped": dict(self.skipped)}

    def without(self, reason_of: Callable[[T], str | None]) -> Loaded[T]:
        """Leave out the records that `reason_of` gives a reason for, and count them.

        Raises:
            UserError: nothing is left.
        """
        reasons = [reason_of(record) for record in self.records]
        usable = [record for record, reason in zip(self.records, reasons, strict=True) if reason is None]
        rest = replace(self, records=usable, skipped=self.skipped + Counter(r for r in reasons if r is not None))
        rest.require_records()
        return rest

    def sample(self, limit: int | None, seed: int = 0) -> Loaded[T]:
        """`limit` records drawn at random, in the source's order; all where there are fewer, and without a limit."""
        if limit is None or limit >= len(self.records):
            return self
        positions = sorted(
            random.Random(f"limit {seed}").sample(range(len(self.records)), _checked(limit, self.source))
        )
        return replace(self, records=[self.records[position] for position in positions])

    def require_records(self) -> None:
        """Raise `UserError` with the commonest reasons if no record is left."""
        if not self.records:
            _refuse_empty(self.source, self.rows, self.skipped)


class Reading(Generic[T]):
    """One pass over a source, record by record: memory does not grow with the source.

    The counts are complete once the pass is over; without a usable row it ends in a `UserError`.

    Attributes:
        rows: rows read.
        skipped: reason -> number of rows left out for it.
        ignored: column -> number of used rows in which it held a value that nothing looked at.
    """

    def __init__(
        self,
        source: str,
        parse: Callable[[TrackedRow], T],
        *,
        needs: str,
        regroup: Regroup | None = None,
        documents: bool = False,
    ) -> None:
        """Open a source.

        Args:
            source: `PATH_OR_ID[:configuration][@split]`, see `open_source`.
            parse: makes a record of a row, or raises `Skip` with the reason.
            needs: the columns that this kind of data needs, for the error when no row has them.
            regroup: makes one row per record where records are spread over rows, or several share one.
            documents: read plain text as documents, {"text": ...}, rather than as lines, {"line": ...}.

        Raises:
            UserError: the source is missing or of an unknown format.
        """
        self.source = open_source(source, documents=documents)
        self.rows = 0
        self.skipped: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self._parse, self._needs, self._regroup = parse, needs, regroup

    def __iter__(self) -> Iterator[T]:
        for record, unread in self._pairs():
            self.ignored.update(unread)
            yield record

    def sample(self, limit: int, seed: int) -> list[T]:
        """`limit` records drawn from all usable rows with equal chance, in the source's order (Algorithm R).

        The same seed gives the same records. Memory is bounded by `limit`.
        """
        _checked(limit, self.source.name)
        rng = random.Random(f"limit {seed}")
        reservoir: list[tuple[int, T, list[str]]] = []
        for position, (record, unread) in enumerate(self._pairs()):
            if position < limit:
                reservoir.append((position, record, unread))
            elif (slot := rng.randrange(position + 1)) < limit:
                reservoir[slot] = (position, record, unread)
        reservoir.sort(key=lambda entry: entry[0])
        for _, _, unread in reservoir:
            self.ignored.update(unread)
        return [record for _, record, _ in reservoir]

    def _pairs(self) -> Iterator[tuple[T, list[str]]]:
        """Each record with the columns that its layout did not look at."""
        name, usable, unknown = self.source.name, 0, 0
        columns: dict[str, None] = {}
        read = self.source.rows() if self._regroup is None else self._regroup(self.source.rows())
        with progress.bar(f"reading {name}") as bar:
            for number, row in enumerate(read):
                self.rows += 1
                if self.rows % ROWS_PER_ADVANCE == 0:
                    bar.advance(ROWS_PER_ADVANCE)
                try:
                    if isinstance(row, Skip):
                        raise row
                    tracked = TrackedRow(row, number)
                    if len(columns) < MOST_COLUMNS:
                        columns |= dict.fromkeys(row)
                    record = self._parse(tracked)
                except Skip as skip:
                    unknown += skip.code == UNKNOWN_COLUMNS
                    self.skipped[skip.reason] += 1
                except RecursionError:  # of a layout, over nested lists that the reader could still parse
                    self.skipped[Skip("too_deep").reason] += 1
                else:
                    usable += 1
                    yield record, tracked.unread()
        if self.rows and unknown == self.rows:
            named = f"has the columns {', '.join(list(columns)[:12])}" if columns else "has no columns"
            held = "is plain text" if list(columns) == ["line"] else named
            raise UserError(f"{name} {held}; this kind of data needs {self._needs}")
        if not usable:
            _refuse_empty(name, self.rows, self.skipped)


def load(
    source: str,
    parse: Callable[[TrackedRow], T],
    *,
    needs: str,
    regroup: Regroup | None = None,
    limit: int | None = None,
    seed: int = 0,
    documents: bool = False,
) -> Loaded[T]:
    """Read a whole source, or a random sample of it.

    Args:
        source: `PATH_OR_ID[:configuration][@split]`, see `open_source`.
        parse: makes a record of a row, or raises `Skip` with the reason.
        needs: the columns that this kind of data needs, for the error when no row has them.
        regroup: makes one row per record where records are spread over rows, or several share one.
        limit: number of records to draw at random from all usable rows; all of them where there are fewer.
        seed: of that draw.
        documents: read plain text as documents, {"text": ...}, rather than as lines, {"line": ...}.

    Raises:
        UserError: the source is missing, damaged, or has no usable row.
    """
    reading = Reading(source, parse, needs=needs, regroup=regroup, documents=documents)
    records = list(reading) if limit is None else reading.sample(limit, seed)
    return Loaded(records, reading.source.sha256(), reading.rows, reading.skipped, source, reading.ignored)


def parse_mixture(sources: Sequence[str]) -> list[tuple[str, float]]:
    """Sources with their weights: `SOURCE`, or `SOURCE=WEIGHT`; the weight is 1 where it is left out.

    Raises:
        UserError: no source, one that is listed twice, or a weight that is not a number above 0 and up to MOST_WEIGHT.
    """
    if not sources:
        raise UserError("there is no source of data: give at least one file, folder or hub id")
    mixture: dict[str, float] = {}
    for entry in sources:
        source, separator, weight = entry.rpartition("=")
        if not separator or exists(Path(entry).expanduser()):
            source, weight = entry, "1"
        if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", weight) or not isfinite(float(weight)) or float(weight) <= 0:
            raise UserError(
                f"{entry} has no usable weight: write SOURCE=WEIGHT with a number above 0, such as {source}=3"
            )
        if float(weight) > MOST_WEIGHT:
            raise UserError(f"{entry}: a source is used at most {MOST_WEIGHT:,} times per pass, lower its weight")
        if not source or source in mixture:
            raise UserError(f"{entry}: name every source once, with its weight as SOURCE=WEIGHT")
        mixture[source] = float(weight)
    return list(mixture.items())


def _checked(limit: int, source: str) -> int:
    if limit < 1:
        raise UserError(f"a limit of {limit} leaves no row of {source}: use 1 or more")
    return limit


def has_value(value: Any) -> bool:
    """Whether a value says anything: null, an empty text and an empty list do not."""
    return value is not None and (bool(value) or not isinstance(value, (str, list, dict, tuple)))


def _reasons_text(skipped: Counter[str]) -> str:
    """`count x reason`, the commonest first."""
    shown = [f"{count:,} x {reason}" for reason, count in skipped.most_common(MOST_REASONS)]
    rest = sum(skipped.values()) - sum(count for _, count in skipped.most_common(MOST_REASONS))
    return ", ".join([*shown, *([f"{rest:,} x other reasons"] if rest else [])])


def _refuse_empty(source: str, rows: int, skipped: Counter[str]) -> None:
    if not rows:
        raise UserError(f"{source} is empty: give a source with at least one row")
    raise UserError(
        f"none of the {rows:,} rows of {source} can be used ({_reasons_text(skipped)}): mend or replace them"
    )
