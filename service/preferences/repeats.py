"""Rows of an import that came before, kept in a file: in memory the ids of a million rows are as large as the rest."""

from __future__ import annotations

import sqlite3
from typing import cast


class Earlier:
    """The ids of rows so far, each with a number that stands for its text."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")  # without a name: a file that SQLite deletes, and writes when memory is short
        self._rows.execute("pragma journal_mode = off")  # nothing is ever rolled back
        self._rows.execute("create table earlier (id text primary key, text integer not null) without rowid")

    def text_of(self, identity: str, text: int) -> int | None:
        """The text of the first row with this id. None when this is the first: it is kept."""
        if self._rows.execute("insert or ignore into earlier values (?, ?)", (identity, text)).rowcount:
            return None
        return cast(int, self._rows.execute("select text from earlier where id = ?", (identity,)).fetchone()[0])

    def close(self) -> None:
        self._rows.close()
