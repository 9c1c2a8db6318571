"""Texts in pieces that a scorer reads whole: an insult at the end of a long text is not cut off."""

from __future__ import annotations

import re
from collections.abc import Callable

SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")


def pieces(text: str, tokens: Callable[[str], int], limit: int) -> list[str]:
    """The text itself where it fits, and its sentences; what does not fit goes in windows that overlap by half.

    Every word is in a piece, and a phrase shorter than half a window is whole in one.

    Args:
        tokens: number of tokens of a text, special ones included.
        limit: greatest number of tokens that the scorer reads.
    """
    sentences = [sentence for sentence in SENTENCE.split(text) if sentence and sentence.strip()]
    candidates = [text, *(sentences if len(sentences) > 1 else [])]
    parts: list[str] = []
    for candidate in candidates:
        parts += [candidate] if tokens(candidate) <= limit else _windows(candidate, tokens, limit)
    return list(dict.fromkeys(parts))


def _windows(text: str, tokens: Callable[[str], int], limit: int) -> list[str]:
    """Stretches of words, each of at most `limit` tokens, from half a stretch to the next."""
    words = [part for word in text.split() for part in _short(word, tokens, limit)]
    windows: list[str] = []
    start = 0
    while True:
        end = min(len(words), start + limit)
        while end > start + 1 and tokens(" ".join(words[start:end])) > limit:
            end -= max(1, (end - start) // 8)
        windows.append(" ".join(words[start:end]))
        if end >= len(words):
            return windows
        start += max(1, (end - start) // 2)


def _short(word: str, tokens: Callable[[str], int], limit: int) -> list[str]:
    """A word without blanks that is too long by itself, such as an address, in halves."""
    if len(word) < 2 or tokens(word) <= limit:
        return [word]
    middle = len(word) // 2
    return [*_short(word[:middle], tokens, limit), *_short(word[middle:], tokens, limit)]
