"""Rows for the tables of any migration, odd text among them, and what the tables hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Boolean, Column, DateTime, Engine, Float, MetaData, String, Table, select
from sqlalchemy.types import Integer

Rows = dict[str, list[tuple[Any, ...]]]
# How many rows of 100 each table has; what is not named has one of 100.
SHARES = {"prompts": 20, "tasks": 20, "answers": 20, "task_responses": 36}
STATES = {
    "tasks": ("answered", "open", "skipped", "expired", "identical"),
    "engines": ("ready", "failed", "starting", "draining"),
}
TEXTS = (
    "plain", "", " ", "ä ß 漢字 🙂", "line\nline\r\n\ttab", "'; drop table answers; --", '"quoted" \\ %s :name $1 {x}',
    "e\u0301 \u202eright to left\u202c \u2028 \ufeff", "\x01\x1f\x7f\x85", "NULL", "0012", "1e400", "<b>&amp;</b>",
)  # fmt: skip
LONG = "long 🙂 " * 2000
BEGINNING = datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def fill(engine: Engine, rows: int) -> dict[str, int]:
    """Put about so many rows into all tables; how many each has got."""
    metadata, done = MetaData(), {}
    metadata.reflect(engine)
    ids: dict[str, list[str]] = {}
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name == "alembic_version":
                continue
            count = max(10, rows * SHARES.get(table.name, 1) // 100)
            values = [_row(table, number, ids) for number in range(count)]
            connection.execute(table.insert(), values)
            done[table.name] = count
            if "id" in table.c and table.name != "audit":
                ids[table.name] = [row["id"] for row in values]
    return done


def _row(table: Table, number: int, ids: dict[str, list[str]]) -> dict[str, Any]:
    return {
        column.name: _value(table, column, number, ids)
        for column in table.columns
        if (table.name, column.name) != ("audit", "id")
    }


def _value(table: Table, column: Column[Any], number: int, ids: dict[str, list[str]]) -> Any:
    name = column.name
    if name == "supersedes":  # an eleventh answer corrects the one before
        return _id("answers", number - 1) if number % 11 == 10 else None
    if column.foreign_keys:
        (key,) = column.foreign_keys
        parents = ids[key.column.table.name]
        # Of a task, prompts and labelers in every combination, each once: one live task of both is allowed.
        if table.name == "task_responses":
            return parents[number // 2 % len(parents)]
        return parents[
            (number // len(ids["prompts"]) if name == "labeler_id" and "prompts" in ids else number) % len(parents)
        ]
    if name == "position":
        return number % 2
    if name == "state":
        return STATES[table.name][number % len(STATES[table.name])]
    if name == "source":
        return ("imported", "imported", "typed")[number % 3]
    if column.nullable and number % 5 == 3:
        return None
    return _plain(column, number, table)


def _plain(column: Column[Any], number: int, table: Table) -> Any:
    kind = column.type
    text = LONG if number % 97 == 5 else TEXTS[number % len(TEXTS)]
    if isinstance(kind, JSON):
        value = {"text": text, "number": 0.1 * number, "nested": [{"": [None, True, -(2**53)]}], text[:20]: number}
        return [value, number] if column.name in ("messages", "scopes", "shown", "ranks", "ratings", "flags") else value
    if isinstance(kind, DateTime):
        return BEGINNING + timedelta(hours=number, microseconds=number)
    if isinstance(kind, Boolean):
        return number % 3 == 0
    if isinstance(kind, Integer):
        return (0, 1, -1, 2**31 - 1)[number % 4]
    if isinstance(kind, Float):
        return (0.1, 1e-300, 123456789.123456789, -0.5)[number % 4]
    if not isinstance(kind, String):
        raise AssertionError(f"no value for {table.name}.{column.name} of {kind}")
    if column.primary_key or column.name.endswith("hash") or column.name in ("name", "pseudonym"):
        return _id(table.name, number) if (kind.length or 100) < 64 else f"{_id(table.name, number)} ä🙂"[: kind.length]
    return text[: kind.length]


def _id(table: str, number: int) -> str:
    return hashlib.md5(f"{table} {number}".encode(), usedforsecurity=False).hexdigest()


def contents(engine: Engine, like: Rows | None = None, columns: dict[str, list[str]] | None = None) -> Rows:
    """Every row of every table, sorted by key, with the columns in the order of their names.

    Args:
        like: only these tables.
        columns: of each table, only these.
    """
    metadata = MetaData()
    metadata.reflect(engine)
    held: Rows = {}
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            if table.name == "alembic_version" or (like is not None and table.name not in like):
                continue
            names = columns[table.name] if columns else columns_of(table)
            rows = connection.execute(select(*(table.c[name] for name in names)))
            held[table.name] = sorted((tuple(map(_plainly, row)) for row in rows), key=repr)
    return held


def columns_of(table: Table) -> list[str]:
    """Names of a table's columns, sorted."""
    return sorted(column.name for column in table.columns)


def all_columns(engine: Engine) -> dict[str, list[str]]:
    """Names of all columns by table."""
    metadata = MetaData()
    metadata.reflect(engine)
    return {table.name: columns_of(table) for table in metadata.sorted_tables}


def _plainly(value: Any) -> Any:
    return repr(value) if isinstance(value, (dict, list)) else value


def differences(before: Rows, after: Rows) -> Iterator[str]:
    """What is not as it was, a line for each table."""
    for table, rows in before.items():
        if table not in after:
            yield f"{table} is gone"
        elif rows != after[table]:
            lost, new = set(rows) - set(after[table]), set(after[table]) - set(rows)
            examples = f"lost {str(list(lost)[:1])[:300]}, new {str(list(new)[:1])[:300]}"
            yield f"{table}: {len(rows)} rows, now {len(after[table])}; {examples}"
