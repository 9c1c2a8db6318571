"""Small questions about texts, and the one check of text that comes from outside."""

from __future__ import annotations

import re
from typing import Any, Literal

from training.artifacts.errors import UserError

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


def clean_text(text: str, name: str, longest: int) -> str:
    """The text without white space at its ends, if it can be stored and shown in a line.

    Args:
        name: what it is, for the message.
        longest: greatest number of characters.

    Raises:
        UserError: it is empty, too long, or holds half a character or a control character.
    """
    text = text.strip()
    if not text:
        raise UserError(f"{name} is empty: give one")
    if len(text) > longest:
        raise UserError(f"{name} has {len(text)} characters: give at most {longest}")
    if is_broken(text):
        raise UserError(f"{name} holds half a character (a lone surrogate): mend the text's encoding")
    if re.search(STEERING, text):
        raise UserError(f"{name} holds a control character: remove it")
    return text
