"""Many conversations as token ids, with what cannot be used counted by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from training.artifacts.conversations import Refusal, sentence
from training.artifacts.rendering import Renderer


def plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Messages with role and content alone."""
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def usable_rows(
    renderer: Renderer,
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    longest: int,
    skipped: Counter[str],
    *,
    generation: bool = False,
) -> list[list[int] | None]:
    """Token ids of each conversation; None, and counted in `skipped`, where it cannot be used.

    Args:
        longest: greatest number of tokens.
        generation: end with the header of an assistant turn.
    """
    render = renderer.prompts if generation else renderer.render
    rows = render(conversations, longest=longest)
    skipped.update(sentence(row) for row in rows if isinstance(row, Refusal))
    return [None if isinstance(row, Refusal) else row.ids for row in rows]
