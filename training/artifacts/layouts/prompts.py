"""Prompts: conversations that wait for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.artifacts.conversations import Message
from training.artifacts.layouts.comparisons import parse as parse_comparison
from training.artifacts.layouts.messages import checked, content_id, conversation_of, optional_text, prompt_of
from training.artifacts.loading import UNKNOWN_COLUMNS, Loaded, Row
from training.artifacts.loading import load as load_rows
from training.artifacts.rows import Skip

NEEDS = "`messages`, or `prompt`, or `instruction` (with `input`), or `chosen` and `rejected`, or lines of a .txt file"


@dataclass(frozen=True)
class PromptRecord:
    """One prompt.

    Attributes:
        id: the row's own, or one made from the messages.
        messages: ends with the user.
        user: pseudonym of who wrote it, where known; splits go by it.
        use_case: such as `generation` or `open qa`, where known.
        mode: an instructed manner, such as `respectful`, where known.
        split: such as `train` or `validation`, where known.
        spec: what a judge needs to know about a good answer, kept as it is.
    """

    id: str
    messages: tuple[Message, ...]
    user: str | None = None
    use_case: str | None = None
    mode: str | None = None
    split: str | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)


def load(source: str, *, limit: int | None = None, seed: int = 0) -> Loaded[PromptRecord]:
    """Load prompts from a file, folder or hub id. Raises `UserError` if there is no usable row."""
    return load_rows(source, parse, needs=NEEDS, limit=limit, seed=seed)


def parse(row: Row) -> PromptRecord:
    """A row as a prompt; a last assistant turn is left off. Raises `Skip` with the reason."""
    messages = _messages(row)
    if messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    messages = checked(messages, "user")
    spec = row.get("spec")
    return PromptRecord(
        id=optional_text(row, "prompt_id", "id") or content_id(messages),
        messages=messages,
        user=optional_text(row, "user", "user_id"),
        use_case=optional_text(row, "use_case", "category"),
        mode=optional_text(row, "mode"),
        split=optional_text(row, "split"),
        spec=dict(spec) if isinstance(spec, Mapping) else {},
    )


def _messages(row: Row) -> tuple[Message, ...]:
    if isinstance(row.get("line"), str):
        return ({"role": "user", "content": row["line"].strip()},)
    found = conversation_of(row) or prompt_of(row)
    if found is not None:
        return found
    if row.get("chosen") is not None:
        comparison = parse_comparison(row)
        return tuple({"role": m["role"], "content": m["content"]} for m in comparison.messages)
    raise Skip(UNKNOWN_COLUMNS)
