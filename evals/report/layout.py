"""How the table is divided: models that write text, and reward models, whose rows are others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from evals.report.contents import Contents
from evals.table import Table

NOTE = (
    "Shares are in %, with 95 % intervals over items in brackets, for this training seed; “!3”: three measurements "
    "failed and are left out. A model has no win rate against itself."
)


def parts(contents: Contents) -> list[tuple[str, Table]]:
    """Titles and tables; only those that have rows."""
    writers = set(contents.policies)
    tables = (
        ("Results", _columns(contents.table, lambda name: name in writers)),
        ("Reward models", _columns(contents.table, lambda name: name not in writers)),
    )
    return [(title, table) for title, table in tables if table.rows]


def _columns(table: Table, shown: Callable[[str], bool]) -> Table:
    """Some columns of the table, without rows that are empty there."""
    places = [place for place, system in enumerate(table.systems) if shown(system)]
    rows = [replace(row, cells=tuple(row.cells[place] for place in places)) for row in table.rows]
    return replace(
        table,
        labels=tuple(table.labels[place] for place in places),
        systems=tuple(table.systems[place] for place in places),
        rows=tuple(row for row in rows if any(cell is not None for cell in row.cells)),
    )
