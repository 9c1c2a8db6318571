"""Prompts: conversations that wait for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.artifacts.conversations import Message
from training.artifacts.layouts import comparisons
from training.artifacts.layouts.columns import Layout, any_case, choose, column_text, content_id, filled, label_text
from training.artifacts.layouts.exchanges import CONVERSATIONS, PROMPTS, conversation_column, conversation_of, prompt_of
from training.artifacts.layouts.grouping import demonstrated
from training.artifacts.layouts.messages import checked, plain
from training.artifacts.layouts.preferences import voted
from training.artifacts.loading import Loaded, Row
from training.artifacts.loading import load as load_rows

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
    return load_rows(source, parse, needs=NEEDS, limit=limit, seed=seed, regroup=demonstrated)


def parse(row: Row) -> PromptRecord:
    """A row as a prompt; a last assistant turn is left off. Raises `Skip` with the reason."""
    row = any_case(row)
    messages = plain(choose(LAYOUTS, row).read(row))
    if messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    messages = checked(messages, "user")
    spec = row["spec"] if filled(row, "spec") else None
    return PromptRecord(
        id=label_text(row, "prompt_id", "id") or content_id(messages),
        messages=messages,
        user=label_text(row, "user", "user_id"),
        use_case=label_text(row, "use_case", "category"),
        mode=label_text(row, "mode"),
        split=label_text(row, "split"),
        spec=dict(spec) if isinstance(spec, Mapping) else {},
    )


def _line(row: Row) -> tuple[Message, ...]:
    return (Message(role="user", content=column_text(row, "line").strip()),)


def _conversation(row: Row) -> tuple[Message, ...]:
    return conversation_of(row) or ()


def _prompt(row: Row) -> tuple[Message, ...]:
    return prompt_of(row) or ()


def _of_comparison(layout: Layout) -> Layout:
    def read(row: Row) -> tuple[Message, ...]:
        return plain(layout.read(row).messages)

    return Layout(layout.name, "prompts", layout.columns, f"The prompt alone. {layout.note}", read, layout.when)


LAYOUTS: tuple[Layout, ...] = (
    Layout("line", "prompts", (("line",),), "A line of a .txt file.", _line),
    # These hold their prompt in ways of their own.
    *(_of_comparison(layout) for layout in voted.LAYOUTS if layout.name in voted.OWN_PROMPTS),
    Layout(
        "conversation",
        "prompts",
        (CONVERSATIONS,),
        "As in demonstrations; a last answer is left off.",
        _conversation,
        lambda row: conversation_column(row) is not None,
    ),
    Layout(
        "prompt",
        "prompts",
        (PROMPTS,),
        "As in demonstrations and comparisons, with `system`, `history` and reading matter; answers are not read.",
        _prompt,
    ),
    *(_of_comparison(layout) for layout in comparisons.LAYOUTS if layout.name not in voted.OWN_PROMPTS),
)
