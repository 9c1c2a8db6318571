"""Small questions about texts."""

from __future__ import annotations

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
