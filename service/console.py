"""What the short commands share: the store, who runs them, and tables."""

from __future__ import annotations

import getpass
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.settings import Settings
from service.store.database import Store

CONSOLE = Console(stderr=True)


def open_store(settings: Settings) -> Store:
    """The store, with its tables up to date."""
    store = Store(settings.database)
    store.migrate()
    return store


def actor() -> str:
    """Who runs the command, for the audit."""
    return f"{getpass.getuser()} (command line)"


def when(time_: object) -> str:
    """A time as people read it; empty for None."""
    return f"{time_:%Y-%m-%d %H:%M}" if time_ else ""


def print_table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A table on standard output."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
