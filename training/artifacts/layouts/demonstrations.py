"""Demonstrations: conversations whose assistant turns are to be imitated."""

from __future__ import annotations

from dataclasses import dataclass

from training.artifacts.conversations import Message
from training.artifacts.layouts.messages import answer_of, checked, conversation_of, optional_text, prompt_of
from training.artifacts.loading import UNKNOWN_COLUMNS, Loaded, Row
from training.artifacts.loading import load as load_rows
from training.artifacts.rows import Skip

NEEDS = "`messages`, or `conversations` (ShareGPT), or `instruction` and `output` (Alpaca), or `prompt` and `response`"


@dataclass(frozen=True)
class Demonstration:
    """One conversation to imitate.

    Attributes:
        messages: ends with the assistant.
        user: pseudonym of who wrote the prompt, where known; splits go by it.
        use_case: such as `generation` or `open qa`, where known.
    """

    messages: tuple[Message, ...]
    user: str | None = None
    use_case: str | None = None


def load(source: str, *, limit: int | None = None, seed: int = 0) -> Loaded[Demonstration]:
    """Load demonstrations from a file, folder or hub id. Raises `UserError` if there is no usable row."""
    return load_rows(source, parse, needs=NEEDS, limit=limit, seed=seed)


def parse(row: Row) -> Demonstration:
    """A row as a demonstration. Raises `Skip` with the reason."""
    messages = conversation_of(row)
    if messages is None:
        prompt, answer = prompt_of(row), answer_of(row)
        if prompt is None or answer is None:
            raise Skip(UNKNOWN_COLUMNS)
        messages = (*prompt, {"role": "assistant", "content": answer.strip()})
    user = optional_text(row, "user", "user_id")
    return Demonstration(checked(messages, "assistant"), user, optional_text(row, "use_case", "category"))
