"""Markdown tables from rows and from dataclasses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a `|` inside a cell is escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def fields_of(cls: Any) -> str:
    """The fields of a dataclass, in order: name, type, and what the docstring's `Attributes` say."""
    meanings = attributes(cls)
    rows = [(f"`{f.name}`", f"`{f.type}`", meanings.get(f.name, "")) for f in dataclasses.fields(cls)]
    return table(("field", "type", "meaning"), rows)


def attributes(cls: Any) -> dict[str, str]:
    """Field -> meaning, from the docstring's `Attributes:` section, where one line may be `a, b: x` or `a: x; b: y`."""
    names = "|".join(f.name for f in dataclasses.fields(cls))
    start = re.compile(rf"(?:^|; )((?:{names})(?:, (?:{names}))*): ")
    paragraphs: list[str] = []
    for line in (cls.__doc__ or "").partition("Attributes:\n")[2].splitlines():
        if start.match(line.strip()) or not paragraphs:
            paragraphs.append(line.strip())
        else:
            paragraphs[-1] += f" {line.strip()}"
    meanings: dict[str, str] = {}
    for paragraph in paragraphs:
        _, *parts = start.split(paragraph)
        for group, text in zip(parts[::2], parts[1::2], strict=True):
            meanings |= dict.fromkeys(
                group.split(", "), text.strip().removesuffix(".") if not text.strip().endswith("...") else text.strip()
            )
    return meanings
