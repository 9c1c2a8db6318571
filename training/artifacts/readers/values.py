"""What every text of a row must be, whatever the format: characters that can be written as UTF-8, none of them null."""

from __future__ import annotations

from typing import Any

from training.artifacts.skips import Skip


def check_texts(row: Any) -> None:
    """Raise `Skip` if a text of the row, at any depth, is not usable text."""
    pending = [row]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if "\0" in value:
                raise Skip("null_character")
            if not value.isascii() and not is_encodable(value):
                raise Skip("half_character")
        elif isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, (list, tuple)):
            pending += value


def is_encodable(text: str) -> bool:
    """Whether a text is without unpaired surrogates, which neither a file nor a tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
