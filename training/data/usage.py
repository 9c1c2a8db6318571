"""What was used of a stage's data and what was left out, for the console, the manifest and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from training.artifacts.errors import UserError


@dataclass
class SourceUsage:
    """One source of a mixture.

    Attributes:
        path: the path or hub id as the user wrote it.
        sha256: of the file's bytes; of the rows as JSON where the source is a folder or on the hub.
        rows: rows read.
        skipped: reason -> number of rows, or of responses of a comparison, left out for it.
        noted: remark -> number of rows that it holds for; they are used all the same.
        ignored: column -> number of used rows in which it held a value that nothing looked at.
    """

    path: str
    sha256: str
    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Usage:
    """What was used of the data of one role, such as demonstrations."""

    role: str
    sources: tuple[SourceUsage, ...]
    used: int

    @property
    def names(self) -> str:
        """The sources as the user wrote them."""
        return " and ".join(source.path for source in self.sources)

    @property
    def rows(self) -> int:
        """Rows read from all sources."""
        return sum(source.rows for source in self.sources)

    @property
    def skipped(self) -> Counter[str]:
        """Left out from all sources, by reason."""
        return sum((source.skipped for source in self.sources), Counter())

    @property
    def noted(self) -> Counter[str]:
        """Remarks on all sources."""
        return sum((source.noted for source in self.sources), Counter())

    @property
    def ignored(self) -> list[str]:
        """Columns of any source that nothing looked at."""
        return sorted({column for source in self.sources for column in source.ignored})

    def sentence(self) -> str:
        """One line such as "demonstrations: used 7 of 9 rows; left out: 2 x a message is empty"."""
        parts = [f"{self.role}: used {self.used:,} of {self.rows:,} rows"]
        if self.skipped:
            parts.append(f"left out: {counted(self.skipped)}")
        if self.noted:
            parts.append(f"note: {counted(self.noted)}")
        if self.ignored:
            parts.append(f"columns not used: {', '.join(self.ignored)}")
        return "; ".join(parts)

    def require(self) -> None:
        """Raise `UserError` with the reasons if nothing is left to use."""
        if self.used:
            return
        if not self.rows:
            raise UserError(f"{self.names} is empty: give {self.role} with at least one row")
        raise UserError(
            f"none of the {self.rows:,} rows of {self.names} can be used ({counted(self.skipped)}): "
            "mend or replace them"
        )

    def without(self, reasons: Sequence[Counter[str]]) -> Usage:
        """With more left out: of each source, by reason."""
        sources = tuple(
            replace(source, skipped=source.skipped + more) for source, more in zip(self.sources, reasons, strict=True)
        )
        return replace(self, sources=sources, used=self.used - sum(sum(more.values()) for more in reasons))

    def noting(self, remarks: Mapping[str, int]) -> Usage:
        """With more remarks on the first source; used for what holds for all of them together."""
        first = replace(self.sources[0], noted=self.sources[0].noted + Counter(remarks))
        return replace(self, sources=(first, *self.sources[1:]))

    def summaries(self) -> dict[str, dict[str, Any]]:
        """What a manifest keeps, by name: one entry per source, numbered where there are several."""
        if len(self.sources) == 1:
            return {self.role: summary(self.sources[0])}
        return {f"{self.role}/{number}": summary(source) for number, source in enumerate(self.sources, start=1)}


def summary(source: SourceUsage) -> dict[str, Any]:
    """A source as JSON values; remarks and unused columns are left out where there are none."""
    values = {"path": source.path, "sha256": source.sha256, "rows": source.rows, "skipped": dict(source.skipped)}
    more = {"noted": dict(source.noted), "ignored": dict(source.ignored)}
    return values | {name: counts for name, counts in more.items() if counts}


def from_summary(values: Mapping[str, Any]) -> SourceUsage:
    """Inverse of `summary`."""
    counts = (Counter(values.get(name, {})) for name in ("skipped", "noted", "ignored"))
    return SourceUsage(values["path"], values["sha256"], values["rows"], *counts)


def counted(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, the commonest first."""
    ordered: Sequence[tuple[str, int]] = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} x {reason}" for reason, count in ordered)
