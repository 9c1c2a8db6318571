"""Small questions about texts."""

from __future__ import annotations

from typing import Any, Literal

# A pattern of the signs that steer a terminal or turn text round.
STEERING = r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"


def common_prefix(a: str, b: str) -> str:
    """The longest text that both begin with."""
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:length]


def is_broken(text: str) -> bool:
    """Whether a text holds a lone surrogate, half of a character, which no encoding of Unicode can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


TextFault = Literal["half_character", "null_character"]


def text_fault(value: Any) -> TextFault | None:
    """Why a text, or a text at any depth of a JSON value, names of fields included, cannot be stored; None if it can.

    UTF-8 cannot write half a character (a lone surrogate), PostgreSQL no null character.
    """
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            if "\0" in one:
                return "null_character"
            if not one.isascii() and is_broken(one):
                return "half_character"
        elif isinstance(one, dict):
            pending += one.keys()
            pending += one.values()
        elif isinstance(one, (list, tuple)):
            pending += one
    return None


def mend(value: Any) -> Any:
    """A JSON value with `?` in place of every half character in it."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {mend(name): mend(held) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [mend(held) for held in value]
    return value
