"""One rendering of conversations for training, scoring and serving: the tokenizer's chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from jinja2 import TemplateError

from training.artifacts.errors import UserError

ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """One turn of a conversation. `role` is system, user or assistant; a turn of `weight` 0 is never a target."""

    role: str
    content: str
    weight: NotRequired[int]


@dataclass(frozen=True)
class Rendered:
    """A conversation as token ids.

    Attributes:
        ids: token ids, shape (tokens,).
        assistant_mask: 1 where the token was written by the assistant, its end-of-turn included; shape (tokens,).
        stop_ids: ids that end an assistant turn.
    """

    ids: list[int]
    assistant_mask: list[int]
    stop_ids: list[int]


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, generation: bool = False) -> Rendered:
    """Apply the tokenizer's chat template.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        messages: the conversation. With `generation` it must not end with the assistant.
        generation: end with the header of an assistant turn, for sampling.

    Raises:
        UserError: no template, a malformed message, or a special-token string inside a message.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError("the tokenizer has no chat template: add one to its folder, or use a chat model's tokenizer")
    turns = check_messages(messages)
    refuse_special_tokens(tokenizer, turns)
    ids = _apply(tokenizer, turns, generation)
    return Rendered(ids, _assistant_mask(tokenizer, turns, ids), stop_ids(tokenizer))


def render_ids(
    tokenizer: Any, conversations: Sequence[Sequence[Mapping[str, str]]], *, generation: bool = False
) -> list[list[int]]:
    """The ids of `render` for many conversations at once, without masks: some times faster.

    Raises:
        UserError: as `render`.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError("the tokenizer has no chat template: add one to its folder, or use a chat model's tokenizer")
    checked = [check_messages(messages) for messages in conversations]
    for turns in checked:
        refuse_special_tokens(tokenizer, turns)
    if not checked:
        return []
    return [[int(i) for i in row] for row in _template(tokenizer, checked, generation)]


def check_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return the messages as plain turns, or raise `UserError` naming the first malformed one."""
    if not messages:
        raise UserError("the conversation is empty: give at least one message")
    turns: list[Message] = []
    for number, message in enumerate(messages, start=1):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UserError(f"message {number} has role {role!r}: use one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise UserError(f"message {number} has no text: `content` must be a string")
        turns.append({"role": role, "content": content})
    return turns


def special_strings(tokenizer: Any) -> list[str]:
    """Strings that the tokenizer reads as control tokens, longest first."""
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {token.content for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    return sorted((s for s in special if s.strip()), key=len, reverse=True)


def refuse_special_tokens(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise `UserError` if a message holds a control token: it could forge a turn of the conversation."""
    for string in special_strings(tokenizer):
        for number, message in enumerate(messages, start=1):
            if string in message["content"]:
                raise UserError(f"message {number} contains the special token {string!r}: remove it from the text")


def stop_ids(tokenizer: Any) -> list[int]:
    """Ids that end an assistant turn: the end-of-sequence token, and the template's end-of-turn token if it differs."""
    ids = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    for token in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"):
        index = tokenizer.get_added_vocab().get(token)
        if index is not None and index not in ids and token in (tokenizer.chat_template or ""):
            ids.append(int(index))
    return ids


def template_hash(tokenizer: Any) -> str | None:
    """sha256 of the chat template, or None without one."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _apply(tokenizer: Any, turns: list[Message], generation: bool) -> list[int]:
    return [int(i) for i in _template(tokenizer, turns, generation)]


def _template(tokenizer: Any, turns: Any, generation: bool) -> Any:
    """The chat template's ids of one conversation or of several. A template may refuse a role or an order of turns."""
    try:
        return tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=generation, return_dict=False)
    except TemplateError as error:
        raise UserError(f"the chat template refuses the conversation: {error}") from None


def _assistant_mask(tokenizer: Any, turns: list[Message], ids: list[int]) -> list[int]:
    """Mark assistant tokens by rendering prefixes: works for templates without `{% generation %}` marks.

    A template whose rendering of a prefix is not a prefix of the whole (it rewrites earlier turns) cannot
    be masked this way and is refused rather than mis-trained on.
    """
    mask = [0] * len(ids)
    for index, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        start = _apply(tokenizer, turns[:index], True)
        end = _apply(tokenizer, turns[: index + 1], False)
        if ids[: len(start)] != start or ids[: len(end)] != end:
            raise UserError(
                "the chat template rewrites earlier turns, so its assistant tokens cannot be found: "
                "use a template whose rendering of a prefix is a prefix of the whole"
            )
        mask[len(start) : len(end)] = [1] * (len(end) - len(start))
    return mask
