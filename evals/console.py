"""Tables on the terminal, and in a log file."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable

from evals.table import Table, text


def wide_console() -> Console:
    """A console that is wide enough for tables where no terminal sets the width, as in a log."""
    console = Console()
    return console if console.is_terminal else Console(width=180)


def print_table(table: Table, console: Console) -> None:
    """Print the table, wrapping names rather than cutting figures."""
    shown = RichTable(title="Results: % [95 % interval over items]", title_justify="left")
    shown.add_column("", overflow="fold", ratio=1)
    shown.add_column("n", justify="right", no_wrap=True)
    for label in table.labels:
        shown.add_column(label, justify="right", overflow="fold")
    section = ""
    for row in table.rows:
        if row.section != section:
            section = row.section
            shown.add_section()
            shown.add_row(f"[bold]{section}[/]")
        shown.add_row(
            row.words, str(row.items or ""), *(text(cell, row.share).replace("[", r"\[") for cell in row.cells)
        )
    console.print(shown)
    console.print(table.sampling, highlight=False)
