"""What every text of a row must be, whatever the format: characters that can be written as UTF-8, none of them null."""

from __future__ import annotations

from typing import Any

from training.artifacts.skips import Skip
from training.artifacts.text import is_broken


def check_texts(row: Any) -> None:
    """Raise `Skip` if a text of the row, at any depth, is not usable text."""
    pending = [row]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if "\0" in value:
                raise Skip("null_character")
            if not value.isascii() and is_broken(value):
                raise Skip("half_character")
        elif isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, (list, tuple)):
            pending += value
