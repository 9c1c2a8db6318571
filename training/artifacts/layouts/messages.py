"""Conversations as lists: OpenAI's messages, ShareGPT's, pairs of question and answer, plain texts in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from training.artifacts.conversations import Message
from training.artifacts.layouts.columns import entries_of, text_in, truth, whole_text
from training.artifacts.layouts.dialogues import dialogue
from training.artifacts.layouts.faults import fault

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "ai", "bing", "bard"), "assistant"),
}
TOOL_ROLES = (
    *("tool", "tools", "tool_call", "tool_response", "ipython"),
    *("function", "function_call", "function_response", "observation"),
)
CONTENT = ("content", "value", "text", "parts")
# One entry per exchange: Capybara, Firefly and others.
EXCHANGES = (
    ("input", "output"),
    ("human", "assistant"),
    ("user", "assistant"),
    ("question", "answer"),
    ("prompt", "response"),
    ("instruction", "output"),
)
REASONING = ("thinking", "reasoning", "reasoning_content")


def turns(value: Any) -> tuple[Message, ...]:
    """Messages of a list in one of the layouts above, or of a dialogue in one text.

    Raises:
        Skip: it is not a conversation, or holds more than text.
    """
    value = entries_of(value)
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, str):
        marked = dialogue(value)
        if marked:
            return marked
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise fault("not_a_conversation")
    if all(isinstance(entry, str) for entry in value):
        return tuple(Message(role="user" if i % 2 == 0 else "assistant", content=t) for i, t in enumerate(value))
    messages: list[Message] = []
    for entry in value:
        if is_exchange(entry):
            messages += _exchange(entry)
        else:
            messages.append(_message(entry))
    spoken = tuple(m for m in messages if m["role"] != "system" or m["content"].strip())  # a blank one says nothing
    if not spoken:
        raise fault("not_a_conversation")
    return spoken


def is_messages(value: Any) -> bool:
    """Whether a value is a message or a list of messages, rather than text or text parts."""
    value = entries_of(value)
    entries = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(entry, Mapping) and ("role" in entry or "from" in entry) for entry in entries)


def is_exchange(entry: Any) -> bool:
    """Whether an entry of a conversation is a question with its answer: an object, or a list of two texts."""
    if isinstance(entry, Mapping):
        return "role" not in entry and "from" not in entry and any(a in entry and b in entry for a, b in EXCHANGES)
    return isinstance(entry, list | tuple) and len(entry) == 2 and all(isinstance(text, str) for text in entry)


def _exchange(entry: Any) -> list[Message]:
    """The two turns of one exchange; an answer that is absent is left off."""
    if isinstance(entry, Mapping):
        asks, answers = next((a, b) for a, b in EXCHANGES if a in entry and b in entry)
        entry = [entry[asks], "" if entry[answers] is None else entry[answers]]
    question, answer = (text_in(part) for part in entry)
    if question is None or answer is None:
        raise fault("content_not_text")
    first = [Message(role="user", content=question)]
    return [*first, Message(role="assistant", content=answer)] if answer.strip() else first


def _message(entry: Any) -> Message:
    if not isinstance(entry, Mapping):
        raise fault("message_not_object")
    name = str(entry.get("role") or entry.get("from")).strip().lower()
    if name in TOOL_ROLES or entry.get("tool_calls") or entry.get("function_call"):
        raise fault("tool_turn")
    role = ROLES.get(name)
    if role is None:
        raise fault("unknown_role")
    value = next((entry[key] for key in CONTENT if entry.get(key) is not None), None)
    content = text_in(value)
    if content is None:
        only_text = not isinstance(value, list | tuple | Mapping)
        raise fault("content_not_text" if only_text else "content_not_only_text")
    if any(isinstance(entry.get(key), str) and entry[key].strip() for key in REASONING):
        raise fault("reasoning_apart")
    message = Message(role=role, content=content)
    if not _is_learned(entry, role):
        message["weight"] = 0
    return message


def _is_learned(entry: Mapping[str, Any], role: str) -> bool:
    """Whether a turn may be a target: OpenAI's `weight`, axolotl's `train`, ms-swift's `loss`."""
    if entry.get("train_detail"):
        raise fault("part_of_turn_learned")
    marks = [truth(entry[name]) for name in ("weight", "train", "loss") if entry.get(name) is not None]
    if role != "assistant":
        if role == "user" and truth(entry.get("train")):
            raise fault("user_turn_learned")
        return True
    if None in marks:
        raise fault("unknown_weight")
    return all(marks)


def with_system(messages: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    """The conversation with a system turn from a column of its own.

    Raises:
        Skip: the conversation begins with another system turn.
    """
    if system is None or not system.strip():
        return messages
    if messages and messages[0]["role"] == "system":
        if same_text(messages[0]["content"], system):
            return messages
        raise fault("two_system_prompts")
    return (Message(role="system", content=system), *messages)


def same_text(a: str, b: str) -> bool:
    """Whether two texts are equal but for white space."""
    return a.split() == b.split()


def from_user(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation without an assistant's turn that comes before the first of the user."""
    head = messages[:1] if messages and messages[0]["role"] == "system" else ()
    spoken = messages[len(head) :]
    return (*head, *spoken[1:]) if len(spoken) > 1 and spoken[0]["role"] == "assistant" else messages


def to_assistant(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation without a last turn of the user that nobody answered."""
    answered = len(messages) > 1 and messages[-1]["role"] == "user" and messages[-2]["role"] == "assistant"
    return messages[:-1] if answered else messages


def plain(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Roles and contents alone: for context, where weights mean nothing."""
    return tuple(Message(role=m["role"], content=m["content"]) for m in messages)


def checked(messages: Sequence[Message], ends_with: str) -> tuple[Message, ...]:
    """The messages if they are one conversation: user and assistant in turn, the first and last as they must be.

    Raises:
        Skip: with the first reason why not.
    """
    if not messages:
        raise fault("not_a_conversation")
    if any(m["role"] == "system" for m in messages[1:]):
        raise fault("late_system")
    spoken = messages[1:] if messages[0]["role"] == "system" else messages
    if not spoken or spoken[0]["role"] != "user":
        raise fault("not_from_user")
    if any(a["role"] == b["role"] for a, b in pairwise(spoken)):
        raise fault("repeated_role")
    if spoken[-1]["role"] != ends_with:
        raise fault(f"not_to_{ends_with}")
    if any(not m["content"].strip() for m in spoken):
        raise fault("empty_message")
    for message in messages:
        whole_text(message["content"])
    return tuple(messages)
