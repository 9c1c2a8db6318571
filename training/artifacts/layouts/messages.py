"""Conversations from the columns that public data sets use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from training.artifacts.conversations import Message
from training.artifacts.rows import Skip

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
NO_INPUT = {"", "<noinput>", "n/a"}


def turns(value: Any) -> tuple[Message, ...]:
    """Messages of a list of {"role", "content"} or ShareGPT's {"from", "value"}. Raises `Skip`."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise Skip("the conversation is empty or not a list")
    found: list[Message] = []
    for entry in value:
        if not isinstance(entry, Mapping):
            raise Skip("a message is not an object")
        role = ROLES.get(str(entry.get("role") or entry.get("from")).lower())
        content = entry.get("content") if entry.get("content") is not None else entry.get("value")
        if role is None:
            raise Skip("a message's role is not system, user or assistant")
        if not isinstance(content, str):
            raise Skip("a message's content is not text")
        found.append({"role": role, "content": content})
    return tuple(found)


def checked(messages: Sequence[Message], ends_with: str) -> tuple[Message, ...]:
    """The messages if they are one conversation: user and assistant in turn, the first and last as they must be.

    Raises:
        Skip: with the first reason why not.
    """
    if not messages:
        raise Skip("the conversation is empty or not a list")
    if any(m["role"] == "system" for m in messages[1:]):
        raise Skip("a system message is not the first")
    spoken = messages[1:] if messages[0]["role"] == "system" else messages
    if not spoken or spoken[0]["role"] != "user":
        raise Skip("the conversation does not start with the user")
    if any(a["role"] == b["role"] for a, b in pairwise(spoken)):
        raise Skip("two turns in a row have the same role")
    if spoken[-1]["role"] != ends_with:
        raise Skip(f"the conversation does not end with the {ends_with}")
    if any(not m["content"].strip() for m in spoken):
        raise Skip("a message is empty")
    return tuple(messages)


def conversation_of(row: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """The row's conversation where it has one: `messages`, or ShareGPT's `conversations`."""
    for name in ("messages", "conversations", "conversation"):
        if row.get(name) is not None:
            return turns(row[name])
    return None


def prompt_of(row: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """The row's prompt where it has one: `prompt` (text or messages), `instruction` with `input`, or `question`."""
    if isinstance(row.get("instances"), list) and row["instances"] and isinstance(row["instances"][0], Mapping):
        row = {**row, **row["instances"][0]}  # self-instruct keeps inputs and outputs in a list of instances
    prompt = row.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        return turns(prompt)
    text = first_text(row, "instruction", "prompt", "question")
    if text is None:
        return None
    extra = (first_text(row, "input", "context") or "").strip()
    content = text.strip() + ("" if extra.lower() in NO_INPUT else f"\n\n{extra}")
    system = first_text(row, "system")
    head: tuple[Message, ...] = ({"role": "system", "content": system},) if system and system.strip() else ()
    return (*head, {"role": "user", "content": content})


def answer_of(row: Mapping[str, Any]) -> str | None:
    """The row's answer where it has one: `output`, `response`, `completion` or `answer`."""
    if isinstance(row.get("instances"), list) and row["instances"] and isinstance(row["instances"][0], Mapping):
        row = {**row, **row["instances"][0]}
    completion = row.get("completion")
    if isinstance(completion, list):
        said = turns(completion)
        return said[0]["content"] if len(said) == 1 and said[0]["role"] == "assistant" else None
    return first_text(row, "output", "response", "completion", "answer")


def first_text(row: Mapping[str, Any], *names: str) -> str | None:
    """The first of these columns that holds text."""
    return next((row[name] for name in names if isinstance(row.get(name), str)), None)


def optional_text(row: Mapping[str, Any], *names: str) -> str | None:
    """The first of these columns that is filled, as text: ids may be numbers."""
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), None)


def content_id(*parts: Any) -> str:
    """An id that depends on the content alone."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
