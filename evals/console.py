"""Tables on the terminal, and in a log file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from evals.table import Table, text
from training.artifacts.text import STEERING

COLOURS = {"PASS": "bold green", "FAIL": "bold red"}


class SafeConsole(Console):
    """A console on which names and reasons of others (models, tasks, servers) cannot steer the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


def plain(text: str) -> str:
    """A text with U+FFFD for every sign that steers a terminal, but for ends of lines and tabs."""
    return re.sub(rf"(?![\n\t]){STEERING}", "\ufffd", text)


def wide_console() -> Console:
    """A console that is wide enough for tables where no terminal sets the width, as in a log."""
    console = SafeConsole()
    return console if console.is_terminal else SafeConsole(width=180)


def print_table(table: Table, console: Console, title: str = "Results") -> None:
    """Print the table, wrapping names rather than cutting figures. Labels are printed as they are, brackets too."""
    shown = RichTable(title=escape(f"{title}: % [95 % interval over items]"), title_justify="left")
    shown.add_column("", overflow="fold", ratio=1)
    shown.add_column("n", justify="right", no_wrap=True)
    for label in table.labels:
        shown.add_column(escape(label), justify="right", overflow="fold")
    section = ""
    for row in table.rows:
        if row.section != section:
            section = row.section
            shown.add_section()
            shown.add_row(Text(section, style="bold"))
        cells = [Text(text(cell, row.share)) for cell in row.cells]
        shown.add_row(Text(row.words), str(row.items or ""), *cells)
    console.print(shown)


def print_verdicts(verdicts: Sequence[tuple[str, str, str]], console: Console) -> None:
    """Print (label, outcome, why) of every decision."""
    for label, outcome, why in verdicts:
        line = Text.assemble((outcome, COLOURS.get(outcome, "bold yellow")), f" {label}: {why}")
        console.print(line, soft_wrap=True, highlight=False)
