"""Plain text: a row per line, or a row per document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.artifacts.readers.lines import lines_of, text_of
from training.artifacts.skips import Skip

LONGEST_DOCUMENT = 2**22  # characters: text without blank lines is cut at a line's end
HEADING = re.compile(r" ?= (?!=).*[^=] = *")  # WikiText's titles; its sections have more signs


def text_lines(path: Path) -> Iterator[dict[str, str] | Skip]:
    """{"line": text} for every line that is not blank."""
    for line in _texts(path):
        if isinstance(line, Skip):
            yield line
        elif line.strip():
            yield {"line": line}


def text_documents(path: Path) -> Iterator[dict[str, str] | Skip]:
    """{"text": document}: an article per WikiText heading where the file has them, else a paragraph per blank line."""
    headings = any(isinstance(line, str) and HEADING.fullmatch(line) for line in _texts(path))
    yield from ({"text": entry} if isinstance(entry, str) else entry for entry in documents(_texts(path), headings))


def documents(lines: Iterable[str | Skip], headings: bool) -> Iterator[str | Skip]:
    """Documents of consecutive lines, cut before headings or at blank lines; an unusable line spoils one."""
    document: list[str] = []
    fault: Skip | None = None
    size = 0
    for line in _with_end(lines):
        at_heading = isinstance(line, str) and HEADING.fullmatch(line)
        at_end = at_heading if headings else isinstance(line, str) and not line.strip()
        if line is None or at_end or size > LONGEST_DOCUMENT:
            text = "\n".join(document).strip()
            if fault is not None:
                yield fault
            elif text:
                yield text
            document, fault, size = [], None, 0
        if isinstance(line, Skip):
            fault = line
        elif line is not None:
            document.append(line)
            size += len(line)


def _with_end(lines: Iterable[str | Skip]) -> Iterator[str | Skip | None]:
    yield from lines
    yield None


def _texts(path: Path) -> Iterator[str | Skip]:
    for line in lines_of(path):
        try:
            yield line if isinstance(line, Skip) else text_of(line)
        except Skip as skip:
            yield skip
