"""Many conversations as token ids, with what cannot be used counted by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from training.artifacts.conversations import refuse_special_tokens, render_ids
from training.artifacts.errors import UserError

SPECIAL_TOKEN = "contains a special token"


def plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Messages with role and content alone."""
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def usable_rows(
    tokenizer: Any,
    conversations: Sequence[Sequence[Mapping[str, str]]],
    longest: int,
    skipped: Counter[str],
    *,
    generation: bool = False,
) -> list[list[int] | None]:
    """Token ids of each conversation; None, and counted in `skipped`, where it cannot be used.

    Args:
        longest: greatest number of tokens.
        generation: end with the header of an assistant turn.

    Raises:
        UserError: the tokenizer has no chat template.
    """
    clean = [i for i, messages in enumerate(conversations) if not holds_special_token(tokenizer, messages)]
    found: list[list[int] | None] = [None] * len(conversations)
    for i, row in zip(clean, _rendered(tokenizer, [conversations[i] for i in clean], generation), strict=True):
        if row is None:
            skipped["the chat template refuses it"] += 1
        elif len(row) <= longest:
            found[i] = row
        else:
            skipped[f"longer than {longest} tokens"] += 1
    if len(clean) < len(conversations):
        skipped[SPECIAL_TOKEN] += len(conversations) - len(clean)
    return found


def _rendered(
    tokenizer: Any, conversations: Sequence[Sequence[Mapping[str, str]]], generation: bool
) -> list[list[int] | None]:
    """`render_ids`, with None for each conversation that the template refuses."""
    try:
        return list(render_ids(tokenizer, conversations, generation=generation))
    except UserError:
        if not tokenizer.chat_template:
            raise
        if len(conversations) == 1:
            return [None]
        return [row for one in conversations for row in _rendered(tokenizer, [one], generation)]


def holds_special_token(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> bool:
    """Whether a message contains a control token."""
    try:
        refuse_special_tokens(tokenizer, messages)
    except UserError:
        return True
    return False
