"""What commands share: the store, who runs them, messages and tables."""

from __future__ import annotations

import getpass
from collections.abc import Iterable

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from service.settings import Settings
from service.store.database import Store

CONSOLE = Console(stderr=True)
FILE_WIDTH = 1000  # of a table that goes into a file or a pipe


def open_store(settings: Settings) -> Store:
    """The store, with its tables up to date."""
    store = Store(settings.database)
    store.migrate()
    return store


def actor() -> str:
    """Who runs the command, for the audit."""
    return f"{getpass.getuser()} (command line)"


def minute(time_: str | None) -> str:
    """An ISO 8601 time to the minute, as people read it; empty for None."""
    return (time_ or "")[:16].replace("T", " ")


def say(text: str) -> None:
    """A message on standard error, as it is."""
    CONSOLE.print(text, highlight=False, markup=False, soft_wrap=True)


def print_table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A table on standard output, with every cell whole: other commands take ids from it."""
    table = Table(*(Column(name, overflow="fold") for name in columns), box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    console.print(table)
