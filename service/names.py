"""Names that people give: of keys, labelers and groups."""

from __future__ import annotations

import re

from training.artifacts.errors import UserError
from training.artifacts.text import STEERING, is_broken


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
