"""What the columns of a row hold, and which columns make up a layout."""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from training.artifacts.conversations import text_of
from training.artifacts.layouts.faults import fault
from training.artifacts.loading import UNKNOWN_COLUMNS, Row, TrackedRow, has_value
from training.artifacts.skips import Skip
from training.artifacts.text import is_broken

Kind = Literal["demonstrations", "comparisons", "prompts", "pretraining"]
TRUE, FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


@dataclass(frozen=True, eq=False)
class Layout:
    """One set of columns that public data sets use.

    Attributes:
        name: of the layout, or of the data sets that brought it.
        kind: of the records that it becomes.
        columns: groups of alternative names; a row fits when every group has a column with a value.
        note: what else is read, and what becomes of it.
        read: makes a record of a fitting row, or raises `Skip`.
        when: a further condition on the values.
    """

    name: str
    kind: Kind
    columns: tuple[tuple[str, ...], ...]
    note: str
    read: Callable[[Row], Any] = field(compare=False, repr=False)
    when: Callable[[Row], bool] = field(default=lambda row: True, compare=False, repr=False)
    _groups: tuple[frozenset[str], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        groups = tuple(frozenset(name.lower() for name in group) for group in self.columns)
        object.__setattr__(self, "_groups", groups)

    def has_columns(self, names: Set[str]) -> bool:
        """Whether these names, in lower case, hold one of each group."""
        return not any(group.isdisjoint(names) for group in self._groups)

    def fits(self, row: Row) -> bool:
        """Whether the row has these columns, each with a value."""
        return all(any(filled(row, name) for name in group) for group in self.columns) and self.when(row)


def choose(layouts: Sequence[Layout], row: Row) -> Layout:
    """The first layout that the row fits.

    Raises:
        Skip: it fits none.
    """
    names = frozenset(str(name).lower() for name in row)
    possible = _possible(tuple(layouts), names)
    for layout in possible:
        if layout.fits(row):
            return layout
    for layout in possible:  # present without a value: say so, rather than that no column is known
        for name in (name for group in layout.columns for name in group if name.lower() in names):
            if not filled(row, name):
                raise fault("empty_column", name)
    raise Skip(UNKNOWN_COLUMNS)


@lru_cache(maxsize=1024)
def _possible(layouts: tuple[Layout, ...], names: frozenset[str]) -> tuple[Layout, ...]:
    """The layouts whose columns these are: rows of one file have the same."""
    return tuple(layout for layout in layouts if layout.has_columns(names))


class _AnyCase(Mapping[str, Any]):
    """A row whose column names are found in any case: tables head their columns with Prompt and Response too."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._names = {name.strip().lower(): name for name in row if isinstance(name, str)}
        self._names |= {name: name for name in row if name in self._names}

    def __getitem__(self, name: str) -> Any:
        return self._row[self._names[name.lower()]]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._names

    def peek(self, name: str) -> Any:
        return peek(self._row, self._names.get(name.lower(), name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


PEEKED = (TrackedRow, _AnyCase)


def any_case(row: Row) -> Row:
    """The row, its columns found in any case and without white space around their names."""
    if all(isinstance(name, str) and name == name.strip().lower() for name in row):
        return row
    return _AnyCase(row)


def peek(row: Row, name: str) -> Any:
    """The value in a column, None without one. To look is not to use: the column does not count as read."""
    return row.peek(name) if isinstance(row, PEEKED) else row.get(name)


def filled(row: Row, name: str) -> bool:
    """Whether the row has a value in this column: null, an empty text and an empty list are none."""
    if type(row) is TrackedRow:  # nearly always, and asked dozens of times per row
        return name in row.filled
    value = peek(row, name)
    return has_value(value)


def first_filled(row: Row, names: Sequence[str]) -> str | None:
    """The first of these columns that has a value."""
    return next((name for name in names if filled(row, name)), None)


def text_in(value: Any) -> str | None:
    """The text of a value: text, a text part, or a list of both; None for all else."""
    parts = [value] if isinstance(value, Mapping) else value
    if isinstance(parts, Sequence) and not isinstance(parts, (str, bytes)):
        parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return text_of(parts)


def column_text(row: Row, name: str) -> str:
    """The text in a column.

    Raises:
        Skip: it is not text.
    """
    text = text_in(row[name])
    if text is None:
        raise fault("not_text", name)
    return text


def label_text(row: Row, *names: str) -> str | None:
    """The first of these columns that has a value, as text: ids may be numbers.

    Raises:
        Skip: it cannot be written as UTF-8.
    """
    name = first_filled(row, names)
    value = None if name is None else row[name]
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    return whole_text(str(value))


def whole_text(text: str) -> str:
    """The text itself.

    Raises:
        Skip: it holds half a character.
    """
    if is_broken(text):
        raise Skip("half_character")
    return text


def truth(value: Any) -> bool | None:
    """A flag that may be written as a number or a word; None where it is neither."""
    word = str(value).strip().lower()
    return True if word in TRUE else False if word in FALSE else None


def number(value: Any) -> float | None:
    """A finite number, also written as text; None otherwise. True counts 1, False 0."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):  # the last: a whole number beyond any float
        return None
    return result if math.isfinite(result) else None


def parsed(value: Any) -> Any:
    """A list that a table holds as text (JSON or Python's own notation), as a list; else the value."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            result = read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return result if isinstance(result, list) else value
    return value


def entries_of(value: Any) -> Any:
    """The entries of a list; an object of equally long lists, one per key, is the same list by column."""
    value = parsed(value)
    if not isinstance(value, Mapping) or not value or not all(isinstance(v, list | tuple) for v in value.values()):
        return value
    if len({len(column) for column in value.values()}) > 1:
        return value
    return [dict(zip(value, entry, strict=True)) for entry in zip(*value.values(), strict=True)]


def content_id(*parts: Any) -> str:
    """An id that depends on the content alone."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
