"""Conversations as plain text: reading them, and why one cannot be used."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NotRequired, TypedDict

from training.artifacts.errors import UserError
from training.artifacts.text import is_broken

ROLES = ("system", "user", "assistant")
DROPS = "leaves out"  # what a template does to a system turn, where it does not refuse it
TEXT_TYPES = ("text", "input_text", "output_text")  # of chat completions and of the Responses API
Code = Literal[
    "malformed",
    "not_text",
    "broken_text",
    "special_token",
    "unknown_token",
    "system_role",
    "template",
    "too_long",
    "nothing_to_learn",
]


class Message(TypedDict):
    """One turn of a conversation. `role` is system, user or assistant.

    An assistant's turn of weight 0 is context: it is never learned.
    """

    role: str
    content: str
    weight: NotRequired[float]


@dataclass(frozen=True)
class Refusal:
    """Why a conversation cannot be used.

    Attributes:
        code: the kind of fault, for decisions.
        detail: what `sentence` needs beside the code.
        message: number of the message at fault, from 1, where it is one message.
    """

    code: Code
    detail: str = ""
    message: int | None = field(default=None, compare=False)


def sentence(refusal: Refusal) -> str:
    """The reason in words, without the number of the message, so that equal reasons can be counted."""
    match refusal.code:
        case "malformed":
            return refusal.detail
        case "not_text":
            return f"holds {refusal.detail}: only text is supported"
        case "broken_text":
            return "holds half a character (a lone surrogate): mend the text's encoding"
        case "special_token":
            return f"contains the special token {refusal.detail!r}: remove it from the text"
        case "unknown_token":
            return f"contains the token {refusal.detail!r}, which the model has no weights for"
        case "system_role":
            return f"the chat template {refusal.detail} the system role"
        case "template":
            return f"the chat template refuses the conversation: {refusal.detail}"
        case "too_long":
            return f"longer than {refusal.detail} tokens"
        case "nothing_to_learn":
            return "nothing in it is to be learned"


def sentence_with_place(refusal: Refusal) -> str:
    """The reason in words with the message at fault, for whoever sent a single conversation."""
    return sentence(refusal) if refusal.message is None else f"message {refusal.message} {sentence(refusal)}"


def text_of(content: Any) -> str | None:
    """The text of a message's content: a string, or a list of text parts, joined. None for all else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes) or not content:
        return None
    texts = [_part_text(part) for part in content]
    return None if any(text is None for text in texts) else "".join(text for text in texts if text is not None)


def _part_text(part: Any) -> str | None:
    """The text of `{"type": "text", "text": ...}`; the type may be missing."""
    if not isinstance(part, Mapping) or (part.get("type") or "text") not in TEXT_TYPES:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def read_messages(messages: Any) -> list[Message] | Refusal:
    """Messages as plain turns: role, text, and the weight if the message has one."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return Refusal("malformed", "the conversation is empty: give at least one message")
    turns: list[Message] = []
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping):
            return Refusal("malformed", "is not an object with `role` and `content`", number)
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            return Refusal("malformed", f"has role {role!r}: use one of {', '.join(ROLES)}", number)
        text = text_of(content)
        if text is None:
            return _not_text(content, number)
        if is_broken(text):
            return Refusal("broken_text", message=number)
        turn: Message = {"role": role, "content": text}
        weight = message.get("weight")
        if isinstance(weight, (int, float)):
            turn["weight"] = float(weight)
        turns.append(turn)
    return turns


def _not_text(content: Any, number: int) -> Refusal:
    """The refusal of a content that is not text: it names a part of another kind."""
    if isinstance(content, Sequence) and not isinstance(content, (str, bytes)):
        kinds = [part.get("type") for part in content if isinstance(part, Mapping)]
        other = next((kind for kind in kinds if isinstance(kind, str) and kind != "text"), None)
        if other is not None:
            return Refusal("not_text", f"a part of type {other!r}", number)
    return Refusal("malformed", "has no text: `content` must be a string or a list of text parts", number)


def check_messages(messages: Any) -> list[Message]:
    """`read_messages`, with a `UserError` in place of a refusal."""
    turns = read_messages(messages)
    if isinstance(turns, Refusal):
        raise UserError(sentence_with_place(turns))
    return turns


def find_control_string(messages: Iterable[Mapping[str, Any]], strings: tuple[str, ...]) -> Refusal | None:
    """The refusal of messages that hold a control string: it could forge a turn of the conversation.

    Args:
        strings: of the tokenizer; see `rendering.Renderer.control_strings`.
    """
    if not strings:
        return None
    search = strings_pattern(strings).search
    for number, message in enumerate(messages, start=1):
        match = search(message["content"])
        if match is not None:
            return Refusal("special_token", match.group(), number)
    return None


def find_lost_system(messages: Iterable[Mapping[str, Any]], lost: Collection[str]) -> Refusal | None:
    """The refusal of messages with a system turn that the chat template would leave out without a word.

    Args:
        lost: of `first` and `later`, which system turns it leaves out; see `rendering.Renderer.lost_system`.
    """
    for index, message in enumerate(messages):
        if message["role"] == "system" and message["content"].strip() and ("later" if index else "first") in lost:
            return Refusal("system_role", DROPS)
    return None


@lru_cache(maxsize=64)
def strings_pattern(strings: tuple[str, ...]) -> re.Pattern[str]:
    """Matches any of the strings, the longest first."""
    return re.compile("|".join(re.escape(string) for string in sorted(strings, key=len, reverse=True)))


def merge_system(messages: Sequence[Message]) -> list[Message]:
    """System turns put before the text of the user turn that follows them, for templates that have no system role."""
    merged: list[Message] = []
    system: list[Message] = []
    for message in messages:
        if message["role"] == "system":
            system.append(message)
            continue
        if message["role"] == "user":
            texts = [turn["content"] for turn in system if turn["content"].strip()]
            message = {**message, "content": "\n\n".join([*texts, message["content"]])}
        else:
            merged += system
        merged.append(message)
        system = []
    return merged + system
