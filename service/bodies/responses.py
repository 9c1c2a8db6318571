"""The Responses API's input as turns of a chat and back: its items say the same in other words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.bodies.tools import check_text_format, check_tools, texts_in
from service.bodies.turns import read_turns
from service.endpoints import Endpoint
from service.errors import ApiError
from service.messages import check_texts, is_empty
from training.artifacts.conversations import text_of

# Fields of items that the service's own answers carry and that say nothing about the conversation.
LABELS = ("id", "status", "phase", "namespace", "created_by")


def prepare_responses(body: dict[str, Any], endpoint: Endpoint) -> None:
    """Check input, tools and format of text, and put them as vLLM reads them. Changes `body` in place.

    Raises:
        ApiError: 400 for what is malformed, stored elsewhere, or not text.
    """
    instructions = body.pop("instructions", None)
    if instructions is not None and not isinstance(instructions, str):
        raise ApiError(400, "`instructions` must be text", param="instructions", code="invalid_value")
    items = body.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list):
        raise ApiError(400, "`input` must be text or a list of items", param="input", code="invalid_value")
    messages = [_message(item, number) for number, item in enumerate(items, start=1)]
    turns = read_turns(messages, endpoint, "input", instructions)
    if instructions and turns[0] == {"role": "system", "content": instructions}:
        body["instructions"] = instructions  # stays a field of its own, which the answer repeats
        del turns[0]
    body["input"] = [item for turn in turns for item in _items(turn)]
    if "text" in body:
        body["text"] = check_text_format(body["text"])
    check_tools(body, endpoint)
    if "tools" in body:
        check_texts(list(texts_in(body["tools"])), endpoint, "tools")
        body["tools"] = [{"type": "function", **tool["function"]} for tool in body["tools"]]
        if isinstance(body["tool_choice"], Mapping):
            body["tool_choice"] = {"type": "function", "name": body["tool_choice"]["function"]["name"]}
    body["store"] = False  # vLLM never frees what it stores


def _message(item: Any, number: int) -> dict[str, Any]:
    """An item as a message of a chat. Raises `ApiError` 400."""
    if not isinstance(item, dict):
        raise _bad(f"item {number} must be an object")
    fields = {name: value for name, value in item.items() if name not in LABELS and not is_empty(value)}
    kind = fields.pop("type", "message")
    if kind == "message":
        return {"content": "", **fields}
    if kind == "function_call":
        function = {"name": fields.pop("name", None), "arguments": fields.pop("arguments", "")}
        call = {"type": "function", "id": fields.pop("call_id", None), "function": function}
        return {"role": "assistant", "tool_calls": [call], **_none_left(fields, number)}
    if kind == "function_call_output":
        output = {"content": fields.pop("output", ""), "tool_call_id": fields.pop("call_id", None)}
        return {"role": "tool", **output, **_none_left(fields, number)}
    if kind == "reasoning":
        if "encrypted_content" in fields:
            raise _bad(f"item {number} holds encrypted thoughts of another service: leave it out")
        thoughts = fields.pop("content", None) or fields.pop("summary", None) or []
        fields.pop("summary", None)
        if not isinstance(thoughts, list) or not all(isinstance(part, Mapping) for part in thoughts):
            raise _bad(f"item {number}: thoughts must be a list of parts with `text`")
        text = "".join(str(part.get("text") or "") for part in thoughts)
        return {"role": "assistant", "reasoning": text, **_none_left(fields, number)}
    if kind == "item_reference":
        raise _bad(f"item {number} refers to a stored item, and nothing is stored: send the item itself")
    raise _bad(f"item {number} has type {kind!r}: messages, function calls, their outputs and reasoning are supported")


def _none_left(fields: Mapping[str, Any], number: int) -> dict[str, Any]:
    if fields:
        name = next(iter(fields))
        raise ApiError(400, f"item {number} has the unknown field `{name}`", param="input", code="unknown_field")
    return {}


def _items(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A turn as items of an input."""
    if turn["role"] == "tool":
        call_id = turn.get("tool_call_id", "call")
        return [{"type": "function_call_output", "call_id": call_id, "output": text_of(turn["content"])}]
    items: list[dict[str, Any]] = []
    if turn.get("reasoning"):
        thought = {"type": "reasoning_text", "text": turn["reasoning"]}
        items.append({"type": "reasoning", "id": "rs", "summary": [], "content": [thought]})
    calls = turn.get("tool_calls", [])
    if turn["content"] or not (items or calls):
        items.append({"type": "message", "role": turn["role"], "content": turn["content"]})
    items += [
        {"type": "function_call", "call_id": call.get("id", "call"), **call["function"]} for call in calls
    ]  # fmt: skip
    return items


def _bad(message: str) -> ApiError:
    return ApiError(400, message, param="input", code="invalid_value")
