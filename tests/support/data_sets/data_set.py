"""What a published data set is to a test, and short ways to write turns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Turn = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Judged:
    """What a comparison must hold."""

    messages: list[Turn]
    texts: list[str]
    ranks: list[int] | None = None
    pairs: list[tuple[int, int, int]] | None = None
    derived: str | None = None
    all_bad: bool = False
    labeler: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: of the published data set or tool.
        layouts: names of the layouts that its rows fit, by kind.
        rows: as they are published.
        demonstrations, comparisons, prompts, pretraining: the records of each kind, None where it is not read as such.
        skipped: kind -> reason -> number of rows.
        ignored: kind -> columns that hold values which nothing reads.
    """

    name: str
    layouts: Mapping[str, str]
    rows: Rows
    demonstrations: list[list[Turn]] | None = None
    comparisons: list[Judged] | None = None
    prompts: list[list[Turn]] | None = None
    pretraining: list[str] | None = None
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ignored: Mapping[str, set[str]] = field(default_factory=dict)

    def write(self, folder: Path) -> str:
        """The rows as a JSONL file in `folder`."""
        file = folder / f"{self.name.replace(' ', '_').replace('/', '_')}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        return str(file)


def system(text: str) -> Turn:
    return {"role": "system", "content": text}


def user(text: str) -> Turn:
    return {"role": "user", "content": text}


def assistant(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def context(text: str) -> Turn:
    """A turn of the assistant that is never a target."""
    return {"role": "assistant", "content": text, "weight": 0}


def sharegpt(name: str, text: str) -> Turn:
    """A turn of ShareGPT."""
    return {"from": name, "value": text}
