"""Tools, their choice and JSON schemas: their form, and sizes that a grammar can be made of in a moment.

An engine makes a grammar of a schema before the first token. Numbers in a schema, such as a million repetitions, make
grammars without end, and one engine serves everybody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from service.endpoints import Endpoint
from service.errors import ApiError

MOST_TOOLS = 128
LONGEST_TOOLS = 128 * 1024  # bytes of JSON, all tools together
LONGEST_SCHEMA = 64 * 1024
DEEPEST_SCHEMA = 32
MOST_REPEATS = 4096  # of anything that a schema counts
LONGEST_PATTERN = 512
MOST_VALUES = 1000  # of one enumeration
COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties", "minContains",
          "maxContains")  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
REPEATS = re.compile(r"\{(?:\d*,)?(\d+)\}|\{(\d+),\}")


def check_response_format(value: Any, param: str = "response_format") -> dict[str, Any]:
    """A chat's `response_format` other than text. Raises `ApiError` 400."""
    if not isinstance(value, Mapping) or value.get("type") not in ("json_object", "json_schema", "text"):
        raise _bad(param, f"`{param}.type` must be text, json_object or json_schema")
    if value["type"] != "json_schema":
        return {"type": value["type"]}
    inner = value.get("json_schema")
    if not isinstance(inner, Mapping):
        raise _bad(param, f"`{param}.json_schema` must be an object with `name` and `schema`")
    _no_others(inner, ("name", "description", "schema", "strict"), f"{param}.json_schema")
    return {"type": "json_schema", "json_schema": _named_schema(inner, f"{param}.json_schema")}


def check_text_format(value: Any) -> dict[str, Any]:
    """`text` of the Responses API, whose format has its schema beside its type. Raises `ApiError` 400."""
    if not isinstance(value, Mapping):
        raise _bad("text", "`text` must be an object")
    _no_others(value, ("format", "verbosity"), "text")
    form = value.get("format")
    if form is None:
        return {}
    if not isinstance(form, Mapping) or form.get("type") not in ("json_object", "json_schema", "text"):
        raise _bad("text.format", "`text.format.type` must be text, json_object or json_schema")
    if form["type"] != "json_schema":
        return {"format": {"type": form["type"]}}
    _no_others(form, ("type", "name", "description", "schema", "strict"), "text.format")
    return {"format": {"type": "json_schema", **_named_schema(form, "text.format")}}


def _named_schema(value: Mapping[str, Any], param: str) -> dict[str, Any]:
    check_schema(value.get("schema"), f"{param}.schema")
    name = value.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _bad(param, f"`{param}.name` must be 1 to 64 letters, digits, `_`, `.` or `-`")
    return {key: part for key, part in value.items() if part is not None and key != "type"}


def check_schema(schema: Any, param: str) -> None:
    """Refuse a schema that is none, or that no grammar can be made of quickly. Raises `ApiError` 400."""
    if not isinstance(schema, Mapping):
        raise _bad(param, f"`{param}` must be a JSON schema")
    if _size(schema) > LONGEST_SCHEMA:
        raise _bad(param, f"`{param}` is longer than {LONGEST_SCHEMA:,} bytes of JSON")
    for depth, name, value in _walk(schema):
        if depth > DEEPEST_SCHEMA:
            raise _bad(param, f"`{param}` is nested more than {DEEPEST_SCHEMA} deep")
        if name in COUNTS and isinstance(value, (int, float)) and value > MOST_REPEATS:
            raise _bad(param, f"`{name}` in `{param}` is more than {MOST_REPEATS}")
        if name == "enum" and isinstance(value, list) and len(value) > MOST_VALUES:
            raise _bad(param, f"an `enum` in `{param}` has more than {MOST_VALUES} values")
        if name == "$ref" and isinstance(value, str) and not value.startswith("#"):
            raise _bad(param, f"`$ref` in `{param}` must stay inside the schema, as in #/$defs/name")
        if name == "pattern" and isinstance(value, str):
            _check_pattern(value, param)


def _check_pattern(pattern: str, param: str) -> None:
    repeats = 1
    for match in REPEATS.finditer(pattern):
        repeats *= max(1, int(match.group(1) or match.group(2)))  # they may stand inside each other
    if len(pattern) > LONGEST_PATTERN or repeats > MOST_REPEATS:
        limits = f"more than {LONGEST_PATTERN} characters or {MOST_REPEATS} repetitions"
        raise _bad(param, f"a `pattern` in `{param}` has {limits}")


def check_tools(body: dict[str, Any], endpoint: Endpoint) -> None:
    """Tools and their choice as vLLM takes them. Changes `body` in place.

    Raises:
        ApiError: 400 for another form, for sizes over the limits, for a template that has no tools, or, where the
            model is to choose, for a model whose calls no parser reads.
    """
    choice = body.get("tool_choice")
    if "tools" not in body:
        if choice not in (None, "none", "auto"):
            raise _bad("tool_choice", "`tool_choice` needs `tools`")
        body.pop("tool_choice", None)
        body.pop("parallel_tool_calls", None)
        return
    tools = [_tool(tool, number) for number, tool in enumerate(_list(body["tools"]), start=1)]
    if _size(tools) > LONGEST_TOOLS:
        raise _bad("tools", f"the tools are longer than {LONGEST_TOOLS:,} bytes of JSON")
    choice = _choice(choice, [tool["function"]["name"] for tool in tools])
    if endpoint.takes_tools is False:
        if choice != "none":
            message = f"{endpoint.checkpoint} has no tools: its chat template does not tell the model about them"
            raise ApiError(400, message, param="tools", code="tools_unsupported")
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            body.pop(name, None)
        return
    if choice != "none" and endpoint.takes_tools and endpoint.tool_parser is None:
        message = (
            f"no parser reads the tool calls of {endpoint.checkpoint}: name vLLM's by "
            "`promote --option tool_call_parser=NAME`"
        )
        raise ApiError(400, message, param="tools", code="tools_unsupported")
    if choice not in ("none", "auto"):
        for tool in tools:
            # The call is certain then, but vLLM holds its arguments to their schema only where a tool is strict: others
            # may go on until the answer is cut, and half a call is read by no parser.
            tool["function"].setdefault("strict", True)
    body["tools"], body["tool_choice"] = tools, choice


def _list(tools: Any) -> list[Any]:
    if not isinstance(tools, list) or len(tools) > MOST_TOOLS:
        raise _bad("tools", f"`tools` must be a list of at most {MOST_TOOLS} tools")
    return tools


def _tool(tool: Any, number: int) -> dict[str, Any]:
    """One tool, flat as in the Responses API or with its function inside, in the second form."""
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        raise _bad("tools", f"tool {number} has type {kind!r}: only functions are supported")
    function = tool.get("function", {key: value for key, value in tool.items() if key != "type"})
    if not isinstance(function, Mapping):
        raise _bad("tools", f"tool {number}: `function` must be an object")
    _no_others(function, ("name", "description", "parameters", "strict"), f"tools[{number - 1}]")
    name, description = function.get("name"), function.get("description")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _bad("tools", f"tool {number} needs a name of 1 to 64 letters, digits, `_`, `.` or `-`")
    if description is not None and not isinstance(description, str):
        raise _bad("tools", f"the description of tool {number} must be text")
    if function.get("parameters") is not None:
        check_schema(function["parameters"], f"tools[{number - 1}].parameters")
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def _choice(choice: Any, names: list[str]) -> Any:
    if choice is None:
        return "auto"
    if choice in ("none", "auto", "required"):
        return choice
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, Mapping) else None
        if name in names:
            return {"type": "function", "function": {"name": name}}
        raise _bad("tool_choice", f"`tool_choice` names {name!r}, which is none of the tools")
    raise _bad("tool_choice", "`tool_choice` must be none, auto, required or a function's name")


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield key
            yield from texts_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts_in(part)


def _walk(value: Any, depth: int = 0) -> Iterator[tuple[int, str, Any]]:
    """Depth, name and value of every field inside a JSON value."""
    if depth > DEEPEST_SCHEMA + 1:
        return
    parts = value.items() if isinstance(value, Mapping) else (("", part) for part in value)
    for name, part in parts:
        yield depth, name, part
        if isinstance(part, (Mapping, list)):
            yield from _walk(part, depth + 1)


def _size(value: Any) -> float:
    """Bytes of JSON; infinite for what is nested too deep to be written."""
    try:
        return len(msgspec.json.encode(value))
    except RecursionError:
        return math.inf


def _no_others(value: Mapping[str, Any], names: tuple[str, ...], param: str) -> None:
    others = sorted(name for name in value if name not in names)
    if others:
        name = f"{param}.{others[0]}"
        raise ApiError(400, f"unknown field `{name}`", param=name, code="unknown_field")


def _bad(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
