"""Progress of anything that takes over two seconds: bars on a terminal, a line every half minute in a log file.

`bar` and `track` show one piece of work; several may be open at once, in any thread. Everything goes to standard error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

CONSOLE = Console(stderr=True, soft_wrap=True)  # lines of a log file are not broken
LINE_SECONDS = 30.0
SHORT_SECONDS = 2.0  # work that was shorter leaves no line in a log file
Item = TypeVar("Item")


class Bar:
    """One piece of work. Made by `bar`."""

    def __init__(self, title: str, total: int | None, completed: int, keep: bool) -> None:
        self.title, self.total, self.completed, self.keep = title, total, completed, keep
        self.text = ""
        self._begun, self._from = time.monotonic(), completed
        self._display: _Display | None = None

    def advance(self, count: int = 1) -> None:
        """Count more of the work as done."""
        self.completed += count
        self._refresh()

    def note(self, text: str) -> None:
        """A few words beside the bar."""
        self.text = text
        self._refresh()

    def rename(self, title: str) -> None:
        """Change the title."""
        self.title = title
        self._refresh()

    def line(self) -> str:
        """The progress in one line."""
        parts = [self._share(), f"{clock(self.seconds)} passed"]
        left = self.seconds_left()
        if left is not None:
            parts.append(f"{clock(left)} left")
        if self.text:
            parts.append(self.text)
        return f"{self.title}: " + ", ".join(part for part in parts if part)

    @property
    def seconds(self) -> float:
        """Time since it began."""
        return time.monotonic() - self._begun

    def seconds_left(self) -> float | None:
        """Expected from the mean speed so far; None before anything is done, and without a total."""
        done = self.completed - self._from
        if self.total is None or done <= 0:
            return None
        return self.seconds * max(0, self.total - self.completed) / done

    def _share(self) -> str:
        if self.total is None:
            return f"{self.completed:,}" if self.completed else ""
        return f"{self.completed:,} of {self.total:,} ({100 * self.completed // max(1, self.total)} %)"

    def _refresh(self) -> None:
        if self._display is not None:
            self._display.refresh(self)


class _Display:
    """All open bars of this process: drawn by rich on a terminal, else written as lines by a thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bars: dict[Bar, TaskID] = {}  # bar -> rich's number of it, -1 in a log file
        self._rich: Progress | None = None
        self._ended: threading.Event | None = None

    def open(self, bar: Bar) -> None:
        with self._lock:
            if CONSOLE.is_terminal:
                if self._rich is None:
                    columns = (
                        TextColumn("{task.description}", markup=False),
                        BarColumn(),
                        MofNCompleteColumn(),
                        TimeElapsedColumn(),
                    )
                    self._rich = Progress(
                        *columns, _Left(), TextColumn("{task.fields[note]}", markup=False), console=CONSOLE
                    )
                    self._rich.start()
                number = self._rich.add_task(bar.title, total=bar.total, completed=bar.completed, note="", bar=bar)
                self._bars[bar] = number
            else:
                self._bars[bar] = TaskID(-1)
                if self._ended is None:
                    self._ended = threading.Event()
                    threading.Thread(target=self._write_lines, args=(self._ended,), daemon=True).start()
            bar._display = self

    def refresh(self, bar: Bar) -> None:
        if self._rich is not None:
            with self._lock:
                if self._rich is not None and bar in self._bars:
                    self._rich.update(
                        self._bars[bar],
                        completed=bar.completed,
                        note=bar.text,
                        description=bar.title,
                    )

    def close(self, bar: Bar, finished: bool) -> None:
        with self._lock:
            number = self._bars.pop(bar)
            bar._display = None
            if self._rich is not None:
                if not bar.keep:
                    self._rich.remove_task(number)
                if not self._bars:
                    self._rich.stop()
                    self._rich = None
            elif bar.seconds > SHORT_SECONDS and finished:
                end = f", {bar.text}" if bar.text else ""
                CONSOLE.print(f"{bar.title}: done in {clock(bar.seconds)}{end}", highlight=False, soft_wrap=True)
            if not self._bars and self._ended is not None:
                self._ended.set()
                self._ended = None

    def _write_lines(self, ended: threading.Event) -> None:
        while not ended.wait(LINE_SECONDS):
            with self._lock:
                lines = [bar.line() for bar in self._bars]
            for line in lines:
                CONSOLE.print(line, highlight=False, soft_wrap=True, markup=False)


class _Left(ProgressColumn):
    """The time left, as in a log file."""

    def render(self, task: Task) -> Text:
        left = task.fields["bar"].seconds_left()
        return Text("" if left is None else f"{clock(left)} left")


_DISPLAY = _Display()


@contextmanager
def bar(title: str, total: int | None = None, completed: int = 0, keep: bool = False) -> Iterator[Bar]:
    """A bar for the time of a block.

    Args:
        total: how much there is to do; None where that is unknown.
        completed: how much of it was done before.
        keep: leave the full bar on the terminal.
    """
    one = Bar(title, total, completed, keep)
    _DISPLAY.open(one)
    finished = False
    try:
        yield one
        finished = True
    finally:
        _DISPLAY.close(one, finished)


def track(items: Sequence[Item], title: str) -> Iterator[Item]:
    """Go through items under a bar."""
    with bar(title, len(items)) as shown:
        for item in items:
            yield item
            shown.advance()


def say(text: str) -> None:
    """A message on standard error, as it is."""
    CONSOLE.print(text, highlight=False, markup=False)


def clock(seconds: float) -> str:
    """A time as 0:07, 12:30 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
