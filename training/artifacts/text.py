"""Text as it stands in data and requests: a string, or a list of text parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
TEXT_TYPES = ("text", "input_text", "output_text")


def text_of(value: Any) -> str | None:
    """The text of a string, of one text part, or of a list of both, joined without anything between; else None.

    A part is {"type": "text", "text": "..."}, as in OpenAI's messages; its type may be absent.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        text = value.get("text")
        return text if isinstance(text, str) and (value.get("type") or "text") in TEXT_TYPES else None
    if isinstance(value, list | tuple) and value:
        parts = [text_of(part) if isinstance(part, str | Mapping) else None for part in value]
        return None if None in parts else "".join(part for part in parts if part is not None)
    return None


def common_prefix(a: str, b: str) -> str:
    """What both texts begin with."""
    shorter = min(len(a), len(b))
    return a[: next((i for i in range(shorter) if a[i] != b[i]), shorter)]


def has_lone_surrogate(text: str) -> bool:
    """Whether the text holds half of a character outside the basic plane: it cannot be written as UTF-8."""
    return not text.isascii() and LONE_SURROGATE.search(text) is not None
