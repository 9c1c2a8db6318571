"""Rows of CSV (RFC 4180) and of TSV, whose quotation marks are plain characters.

A CSV record may go over several lines, so one lost quotation mark could swallow all the rows after it. The sign: a
record's last line holds an odd number of quotation marks where the first opened a field, while a row of its own holds
an even one. So a record whose last line would be a whole row by itself began with a stray mark. After such a record,
and after one whose marks do not match, reading resumes at the next line that begins a whole row.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from training.artifacts.errors import UserError
from training.artifacts.readers.lines import lines_of, raw_lines
from training.artifacts.skips import Skip
from training.artifacts.text import is_broken

Cells = dict[str, str]
QUOTED = re.compile(r'[^"]*(?:""[^"]*)*+')  # of a quoted field, what this line holds before the closing mark
LONGEST_RECORD = 16 * 2**20  # characters: a field that is never closed must not fill the memory


def csv_rows(path: Path) -> Iterator[Cells | Skip]:
    """Rows by the names of the header. A row with more or fewer fields than columns is left out.

    Raises:
        UserError: the header cannot be used.
    """
    lines = _Lines(path)
    lines.drop_blank()
    if lines[0] is None:
        return
    header = _record(lines, 0)
    if header is None:
        raise UserError(f"the header of {path} has a quotation mark that is not closed: mend its first line")
    columns = _columns(path, header.fields)
    lines.drop(header.lines)
    while lines.drop_blank():
        record = _record(lines, 0)
        if record is None or _swallows_rows(lines, record, len(columns)):
            yield lines[0] if isinstance(lines[0], Skip) else Skip("stray_quote")
            lines.drop(1)
            while lines[0] is not None and not _begins_row(lines, 0, len(columns)):
                lines.drop(1)
        else:
            yield _row(columns, record.fields, record.is_strict)
            lines.drop(record.lines)


def tsv_rows(path: Path) -> Iterator[Cells | Skip]:
    """Rows by the names of the header, one per line; nothing but the tab separates fields."""
    columns: list[str] = []
    for line in lines_of(path):
        if isinstance(line, Skip):
            yield line
        elif fields := line.decode(errors="surrogateescape").split("\t") if line.strip() else []:
            if columns:
                yield _row(columns, fields)
            else:
                columns = _columns(path, fields)


@dataclass(frozen=True)
class _Record:
    """Fields of one record, and how many lines it takes.

    `is_strict` is false where an unquoted field holds an odd number of quotation marks: a piece of a broken one.
    """

    fields: list[str]
    lines: int
    is_strict: bool


class _Lines:
    """Lines from the current one on, read when needed; None after the last."""

    def __init__(self, path: Path) -> None:
        self._source = raw_lines(path)
        self._ahead: deque[str | Skip] = deque()

    def __getitem__(self, index: int) -> str | Skip | None:
        while len(self._ahead) <= index:
            line = next(self._source, None)
            if line is None:
                return None
            # Bytes that are not UTF-8 become surrogates: they spoil their row, not the way it is framed.
            self._ahead.append(line if isinstance(line, Skip) else line.decode(errors="surrogateescape"))
        return self._ahead[index]

    def drop(self, count: int) -> None:
        for _ in range(count):
            self._ahead.popleft()

    def drop_blank(self) -> bool:
        """Go to the next line that is not blank; whether there is one."""
        while isinstance(line := self[0], str) and not line.strip(" \r\ufeff"):
            self.drop(1)
        return line is not None


def _record(lines: _Lines, start: int, *, strict: bool = False) -> _Record | None:
    """The record that begins at line `start`, or None where its quotation marks do not match (`strict`: or stray)."""
    fields: list[str] = []
    pieces: list[str] | None = None  # of a quoted field that is open
    is_strict, size = True, 0
    for number in count(start):
        line = lines[number]
        if not isinstance(line, str) or (size := size + len(line)) > LONGEST_RECORD:
            return None
        if pieces is not None and '"' not in line:
            pieces.append(line + "\n")
            continue
        text = line.removesuffix("\r")
        at = 0
        if number == start:
            text = text.removeprefix("\ufeff")
        while at <= len(text):
            if pieces is None and text.startswith('"', at):
                pieces, at = [], at + 1
            if pieces is None:
                end = text.find(",", at)
                end = len(text) if end < 0 else end
                fields.append(text[at:end])
                is_strict = is_strict and fields[-1].count('"') % 2 == 0
                if strict and not is_strict:
                    return None
            else:
                end = QUOTED.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty text
                pieces.append(text[at:end])
                if end == len(text):
                    pieces.append("\r\n" if line.endswith("\r") else "\n")
                    break
                fields.append("".join(pieces).replace('""', '"'))
                pieces, end = None, end + 1
                if end < len(text) and text[end] != ",":
                    return None
            at = end + 1
        if pieces is None:
            return _Record(fields, number - start + 1, is_strict)
    raise AssertionError("lines end with None")


def _begins_row(lines: _Lines, start: int, columns: int) -> _Record | None:
    """The record at line `start` if it is a whole row without a doubt."""
    record = _record(lines, start, strict=True)
    return record if record is not None and len(record.fields) == columns else None


def _swallows_rows(lines: _Lines, record: _Record, columns: int) -> bool:
    """Whether a record of several lines began with a stray mark and ends in the middle of an intact row."""
    if record.lines == 1:
        return False
    last = _begins_row(lines, record.lines - 1, columns)
    if last is None or last.lines == 1:
        return last is not None
    return lines[record.lines] is not None and _begins_row(lines, record.lines, columns) is None


def _columns(path: Path, names: list[str]) -> list[str]:
    names = [name.strip().removeprefix("\ufeff") for name in names]
    if any("\r" in name for name in names):
        raise UserError(f"the lines of {path} end with CR alone: convert them to LF, for example with tr '\\r' '\\n'")
    if any(is_broken(name) or "\0" in name for name in names):
        raise UserError(f"the header of {path} is not UTF-8 text: convert the file, for example with iconv -t utf-8")
    repeated = [name for name, times in Counter(names).items() if name and times > 1]
    if repeated:
        raise UserError(f"{path} has two columns `{repeated[0]}`: rename one")
    return [name or f"column {number}" for number, name in enumerate(names, start=1)]


def _row(columns: list[str], fields: list[str], is_strict: bool = True) -> Cells | Skip:
    if len(fields) != len(columns):
        return Skip("more_fields" if len(fields) > len(columns) else "fewer_fields")
    if not is_strict:
        return Skip("stray_quote")
    if fields == columns:
        return Skip("repeated_header")
    text = "".join(fields)
    if is_broken(text):
        return Skip("not_utf8")
    return Skip("null_character") if "\0" in text else dict(zip(columns, fields, strict=True))
