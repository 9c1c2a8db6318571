"""What every text of a row must be, whatever the format: characters that can be written as UTF-8, none of them null."""

from __future__ import annotations

from typing import Any

from training.artifacts.skips import Skip
from training.artifacts.text import text_fault


def check_texts(row: Any) -> None:
    """Raise `Skip` if a text of the row, at any depth, is not usable text."""
    fault = text_fault(row)
    if fault is not None:
        raise Skip(fault)
