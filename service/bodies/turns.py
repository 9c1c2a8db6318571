"""Messages of a chat as today's clients send them: with tools, thoughts, and the empty fields of an answer fed back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from service.bodies.tools import texts_in
from service.endpoints import Endpoint
from service.errors import ApiError
from service.messages import check_texts, fit, is_empty, refused
from training.artifacts.conversations import Message, Refusal, read_messages
from training.artifacts.text import is_broken

# Beside role and content, what no template renders: a participant's name, and what LiteLLM notes of an answer.
DROPPED = ("name", "provider_specific_fields")
THOUGHTS = ("reasoning", "reasoning_content")
ROLES = {"developer": "system"}


def read_turns(
    messages: Any, endpoint: Endpoint, param: str = "messages", instructions: str | None = None
) -> list[dict[str, Any]]:
    """The messages as the engine's chat template is to render them.

    A message may be one that the service returned: its fields that hold nothing are left out. An assistant's calls of
    tools and its thoughts are kept, and the turns of tools that answer.

    Args:
        param: the body's field, for refusals.
        instructions: a system turn before the messages.

    Raises:
        ApiError: as `messages.for_engine`; also for a field that a message may not have, and for turns of tools where
            the template has none.
    """
    if not isinstance(messages, list):
        raise ApiError(400, f"`{param}` must be a list of objects", param=param, code="invalid_value")
    plain: list[Any] = []
    extras: list[dict[str, Any]] = []
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            raise ApiError(400, f"`{param}` must be a list of objects", param=param, code="invalid_value")
        turn, extra = _turn(message, number, endpoint, param)
        plain.append(turn)
        extras.append(extra)
    turns = read_messages(plain)
    if isinstance(turns, Refusal):
        raise refused(turns, param)
    check_texts(list(texts_in(extras)), endpoint, param)
    whole = [cast(Message, {**turn, **extra}) for turn, extra in zip(turns, extras, strict=True)]
    if instructions:
        check_texts([instructions], endpoint, "instructions")
        whole.insert(0, Message(role="system", content=instructions))
    return [dict(turn) for turn in fit(whole, endpoint)]


def _turn(
    message: dict[str, Any], number: int, endpoint: Endpoint, param: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One message as role and content, and what it has beside them."""
    role, content = message.get("role"), message.get("content")
    role = ROLES.get(role, role) if isinstance(role, str) else role
    extra: dict[str, Any] = {}
    for name, value in message.items():
        if name in ("role", "content", *DROPPED) or is_empty(value):
            continue
        if role == "assistant" and name == "tool_calls":
            extra["tool_calls"] = _calls(value, number, param)
        elif role == "assistant" and name in THOUGHTS and isinstance(value, str):
            extra["reasoning"] = value
        elif role == "tool" and name == "tool_call_id" and isinstance(value, str):
            extra["tool_call_id"] = value
        else:
            raise ApiError(400, f"message {number} has the unknown field `{name}`", param=param, code="unknown_field")
    if endpoint.takes_tools is False and (role == "tool" or "tool_calls" in extra):
        reason = f"message {number} is about tools, and the chat template of {endpoint.checkpoint} has none"
        raise ApiError(400, reason, param=param, code="tools_unsupported")
    if role == "tool":
        extra["role"], role = "tool", "user"  # read as a user's turn, which it is but for its name
    if role == "assistant" and is_empty(content):
        content = ""  # an answer that only calls tools, or one that was cut before its first word
    return {"role": role, "content": content}, extra


def _calls(calls: Any, number: int, param: str) -> list[dict[str, Any]]:
    """An assistant's calls of tools. Raises `ApiError` 400."""
    fault = f"message {number}: each of `tool_calls` needs a `function` with `name` and `arguments` as text"
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise ApiError(400, fault, param=param, code="invalid_value")
    result = []
    for call in calls:
        function = call.get("function")
        if not isinstance(function, Mapping) or call.get("type", "function") != "function":
            raise ApiError(400, fault, param=param, code="invalid_value")
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise ApiError(400, fault, param=param, code="invalid_value")
        turn_call = {"type": "function", "function": {"name": name, "arguments": _arguments(arguments, number, param)}}
        result.append(turn_call | ({"id": call["id"]} if isinstance(call.get("id"), str) else {}))
    return result


def _arguments(text: str, number: int, param: str) -> str:
    """Arguments as JSON without escapes, in which a control string could hide. Those of a call that was cut are empty,
    as vLLM takes them too: a conversation must not end for good with one bad call."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return "{}"
    plain = json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else "{}"
    if is_broken(plain):
        raise refused(Refusal("broken_text", message=number), param)
    return plain
