"""Rows of JSON lines, and of JSON files: a list, an object that holds lists, values one after another, JSON lines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.readers.lines import BOM, lines_of, opened, text_of
from training.artifacts.readers.values import check_texts
from training.artifacts.skips import Skip
from training.artifacts.text import is_broken

Json = dict[str, Any]
Span = tuple[int, int]  # start and end of a value in a text
ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # null characters and halves of characters
SPACE = re.compile(r"[ \t\r\n]*")
BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
SAMPLED_LINES = 50
SPACES = 4096  # bytes in which a file's first sign is looked for


def json_lines(lines: Iterable[bytes | Skip]) -> Iterator[Json | Skip]:
    """A row per line. Several whole values on one line, as where a line end was lost, are a row each."""
    for line in lines:
        if isinstance(line, Skip):
            yield line
        elif line.strip():
            yield from _rows_of_line(line)


def json_rows(path: Path, split: str | None = None) -> Iterator[Json | Skip]:
    """Rows of a .json file. JSON lines are read line by line; anything else is read whole.

    Args:
        split: of an object with several lists of rows, the name of one. The rows of such lists get it as `split`.

    Raises:
        UserError: brackets or quotation marks do not match, so that the rows after that cannot be separated.
    """
    if _is_json_lines(path):
        yield from json_lines(lines_of(path))
        return
    with opened(path) as file:
        text = file.read().removeprefix(BOM).decode(errors="surrogateescape")
    try:
        lists = _lists_of_rows(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid JSON (line {error.lineno}, column {error.colno}): mend it there, "
            "or write one JSON object per line"
        ) from None
    for name, spans in _selected(path, lists, split).items():
        for start, end in spans:
            try:
                row = json_row(text[start:end])
            except Skip as skip:
                yield skip
            else:
                yield {**row, "split": name} if name else row


def begins_list(path: Path) -> bool:
    """Whether a file begins as one list of rows, whatever its name says."""
    with opened(path) as file:
        return file.read(SPACES).removeprefix(BOM).lstrip().startswith(b"[")


def json_row(text: str) -> Json:
    """One JSON object. Raises `Skip` for anything else, and for what cannot be written again as it is."""
    try:
        row = STRICT.decode(text)
    except RecursionError:
        raise Skip("too_deep") from None
    except json.JSONDecodeError:
        raise Skip("not_json") from None
    except ValueError:  # Python refuses whole numbers of thousands of digits
        raise Skip("not_a_number") from None
    if not isinstance(row, dict):
        raise Skip("not_an_object")
    if not text.isascii() and is_broken(text):
        raise Skip("not_utf8")
    if ODD_ESCAPE.search(text):
        check_texts(row)
    return row


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise Skip("repeated_key")
    return row


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Skip("not_a_number")
    return value


STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
# Only to find where a value ends: nothing that it holds matters.
LENIENT = json.JSONDecoder(strict=False, parse_float=str, parse_int=str)


def _rows_of_line(line: bytes) -> Iterator[Json | Skip]:
    try:
        text = text_of(line)
        try:
            row = json_row(text)
        except Skip as skip:
            spans = _values(text) if skip.code == "not_json" else []
            if len(spans) < 2 or any(text[start] != "{" for start, _ in spans):
                raise
            for start, end in spans:
                yield from _rows_of_line(text[start:end].encode())
        else:
            yield row
    except Skip as skip:
        yield skip


def _values(text: str) -> list[Span]:
    """The values that a text consists of, one after another; none if it does not consist of whole values."""
    spans = []
    at = _after_space(text, 0)
    try:
        while at < len(text):
            end = _end_of_value(text, at)
            spans.append((at, end))
            at = _after_space(text, end)
    except json.JSONDecodeError:
        return []
    return spans


def _is_json_lines(path: Path) -> bool:
    """Whether at least two lines, and half of the first ones, are whole objects: one damaged line does not matter."""
    lines = (line for line in lines_of(path) if isinstance(line, Skip) or line.strip())
    sample = list(islice(lines, SAMPLED_LINES))
    objects = 0
    for line in sample:
        text = "" if isinstance(line, Skip) else line.decode(errors="replace").strip()
        objects += text.startswith("{") and text.endswith("}") and len(_values(text)) == 1
    return len(sample) > 1 and 2 * objects >= len(sample)


def _lists_of_rows(text: str) -> dict[str, list[Span]]:
    """Lists of rows by name; without a name where there is but one. Raises `JSONDecodeError`."""
    start = _after_space(text, 0)
    if start == len(text):
        return {"": []}
    if text[start] == "[":
        spans, end = _entries_of_list(text, start)
        lists = {"": spans}
    else:
        end = _end_of_value(text, start)
        lists = {"": [(start, end)]}
    if (rest := _after_space(text, end)) != len(text):
        values = _values(text)
        if not values:
            raise json.JSONDecodeError("Extra data", text, rest)
        return {"": values}
    if text[start] == "{":
        named = {name: spans for name, spans in _lists_of_object(text, start) if _are_objects(text, spans)}
        lists = {"": next(iter(named.values()))} if len(named) == 1 else named or lists
    return lists


def _lists_of_object(text: str, at: int) -> Iterator[tuple[str, list[Span]]]:
    """The members of the object at `at` that are lists."""
    at = _after_space(text, at + 1)
    while text[at] != "}":
        end_of_name = _end_of_value(text, at)
        name = json.loads(text[at:end_of_name], strict=False)
        at = _after_space(text, _after_space(text, end_of_name) + 1)
        if text[at] == "[":
            spans, at = _entries_of_list(text, at)
            yield name, spans
        else:
            at = _end_of_value(text, at)
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _entries_of_list(text: str, at: int) -> tuple[list[Span], int]:
    """The entries of the list at `at`, and where it ends. Raises `JSONDecodeError` where it is broken."""
    spans: list[Span] = []
    at = _after_space(text, at + 1)
    if text[at : at + 1] == "]":
        return spans, at + 1
    while True:
        end = _end_of_value(text, at)
        spans.append((at, end))
        at = _after_space(text, end)
        if text[at : at + 1] == "]":
            return spans, at + 1
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
        at = _after_space(text, at + 1)


def _end_of_value(text: str, at: int) -> int:
    try:
        return LENIENT.raw_decode(text, at)[1]
    except RecursionError:  # too deep for Python's parser, not for counting brackets
        depth = 0
        for match in BRACKETS.finditer(text, at):
            bracket = match.group()
            depth += (bracket in "[{") - (bracket in "]}")
            if depth == 0:
                return match.end()
        raise json.JSONDecodeError("Unclosed bracket", text, at) from None


def _are_objects(text: str, spans: list[Span]) -> bool:
    """Whether a list is one of rows: half of its entries or more are objects."""
    return bool(spans) and 2 * sum(text[start] == "{" for start, _ in spans) >= len(spans)


def _selected(path: Path, lists: dict[str, list[Span]], split: str | None) -> dict[str, list[Span]]:
    """The list to read: the only one, `train`, or the named one; all where none has that name."""
    name = split or "train"
    if len(lists) == 1 or (split is not None and split not in lists):
        return lists
    if name not in lists:
        offers = ", ".join(f"{path}@{other}" for other in lists)
        raise UserError(f"{path} holds several lists of rows: use one of {offers}")
    return {name: lists[name]}


def _after_space(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at
