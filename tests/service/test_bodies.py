"""Bodies of OpenAI's protocol as clients send them: what is forwarded, what is left out, what is refused by name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from service.bodies.parsing import parse
from service.bodies.tools import check_schema
from service.endpoints import Endpoint, _endpoint
from service.engines.gateway import encode
from service.engines.protocol import CHAT, COMPLETIONS, RESPONSES, one_sentence, parse_usage
from service.errors import ApiError
from service.routes.openai import prepare
from tests.service.conftest import engine_row
from tests.support.stub_engine import chat_answer

pytestmark = pytest.mark.unit
HELLO = [{"role": "user", "content": "hello"}]
STRING = {"type": "string"}
SCHEMA = {"type": "object", "properties": {"city": STRING}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
ASKED = {CHAT: {"messages": HELLO}, COMPLETIONS: {"prompt": "x"}, RESPONSES: {"input": "x"}}
CONTROL = "a <|end|> b"


def endpoint(**changes: Any) -> Endpoint:
    return replace(_endpoint(engine_row("sft-1")), **{"takes_tools": True, "tool_parser": "hermes", **changes})


def sent(path: str = CHAT, target: Endpoint | None = None, **fields: Any) -> dict[str, Any]:
    """What an engine is sent for a request with these fields."""
    return prepare({"model": "x", **ASKED[path], **fields}, target or endpoint(), path)[0]


def refusal(path: str = CHAT, target: Endpoint | None = None, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        sent(path, target, **fields)
    assert refused.value.status == 400
    assert "\n" not in refused.value.message
    return refused.value


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"a": "b"}},
        {"store": True},
        {"store": False},
        {"service_tier": "auto"},
        {"user": "u"},
        {"safety_identifier": "s"},
        {"prompt_cache_key": "k"},
        {"prompt_cache_retention": "24h"},
        {"verbosity": "low"},
        {"tools": []},
        {"logit_bias": {}},
        {"stream_options": None},
        {"tools": None},
        {"functions": None},
        {"previous_response_id": None},
        {"background": None},
        {"best_of": None},
        {"a_field_of_tomorrow": None},
    ],
)
def test_fields_that_change_nothing_are_taken(path: str, fields: dict[str, Any]) -> None:
    body = sent(path, **fields)
    body.pop("metadata", None)  # the Responses API repeats it in its answer
    assert body == sent(path)


@pytest.mark.parametrize(
    "path, fields",
    [
        (CHAT, {"tool_choice": "none"}),
        (CHAT, {"tool_choice": "auto"}),
        (CHAT, {"parallel_tool_calls": True}),
        (CHAT, {"response_format": {"type": "text"}}),
        (CHAT, {"modalities": ["text"]}),
        (CHAT, {"functions": []} | {}),
        (CHAT, {"function_call": "none"}),
        (CHAT, {"best_of": 1}),
        (CHAT, {"echo": False}),
        (COMPLETIONS, {"best_of": 1}),
        (COMPLETIONS, {"suffix": ""}),
        (RESPONSES, {"background": False}),
        (RESPONSES, {"truncation": "disabled"}),
        (RESPONSES, {"include": []}),
        (RESPONSES, {"text": {"format": {"type": "text"}}}),
        (RESPONSES, {"tool_choice": "auto"}),
        (RESPONSES, {"stream_options": {"include_obfuscation": False}}),
    ],
)
def test_values_that_ask_for_nothing_are_left_out(path: str, fields: dict[str, Any]) -> None:
    assert sent(path, **fields) == sent(path)


@pytest.mark.parametrize(
    "path, fields, code",
    [
        (CHAT, {"chat_template": "x"}, "unknown_field"),
        (CHAT, {"cache_salt": "x"}, "unknown_field"),
        (CHAT, {"structured_outputs": {}}, "unknown_field"),
        (CHAT, {"kv_transfer_params": {}}, "unknown_field"),
        (CHAT, {"temprature": 0}, "unknown_field"),
        (CHAT, {"previous_response_id": "r"}, "unsupported_field"),
        (COMPLETIONS, {"suffix": "x"}, "unsupported_field"),
        (COMPLETIONS, {"best_of": 2}, "unsupported_field"),
        (COMPLETIONS, {"best_of": True}, "unsupported_field"),
        (COMPLETIONS, {"tools": [TOOL]}, "unknown_field"),
        (CHAT, {"modalities": ["text", "audio"]}, "unsupported_field"),
        (CHAT, {"functions": [1]}, "unsupported_field"),
        (CHAT, {"metadata": "x"}, "invalid_value"),
        (CHAT, {"store": "yes"}, "invalid_value"),
        (CHAT, {"stream": "yes"}, "invalid_value"),
        (CHAT, {"n": True}, "invalid_value"),
        (CHAT, {"n": 2.0}, "invalid_value"),
        (CHAT, {"stream_options": 3}, "invalid_value"),
        (CHAT, {"stream_options": {"x": 1}}, "unknown_field"),
        (RESPONSES, {"previous_response_id": "r"}, "unsupported_field"),
        (RESPONSES, {"background": True}, "unsupported_field"),
        (RESPONSES, {"conversation": "c"}, "unsupported_field"),
        (RESPONSES, {"n": 2}, "unknown_field"),
        (RESPONSES, {"prompt": {"id": "x"}}, "unknown_field"),
        (RESPONSES, {"input": 5}, "invalid_value"),
        (RESPONSES, {"input": [5]}, "invalid_value"),
        (RESPONSES, {"instructions": 5}, "invalid_value"),
        (RESPONSES, {"input": []}, None),
        (RESPONSES, {"text": "x"}, "invalid_value"),
    ],
)
def test_every_other_field_is_refused_by_name(path: str, fields: dict[str, Any], code: str | None) -> None:
    error = refusal(path, **fields)
    assert error.code == code
    assert error.param
    assert error.param.startswith(next(iter(fields)))


def test_an_answer_of_the_service_is_a_message() -> None:
    message = chat_answer({"model": "m"})["choices"][0]["message"]
    plain = {"role": "assistant", "content": "two words"}
    ask = {"role": "user", "content": "and now"}
    assert sent(messages=[*HELLO, message, ask])["messages"] == [*HELLO, plain, ask]
    thought = {**message, "reasoning": "hm"}
    assert sent(messages=[*HELLO, thought, ask])["messages"][1] == {**plain, "reasoning": "hm"}
    noted = {**message, "provider_specific_fields": {"reasoning": None, "stop_reason": 7}}
    assert sent(messages=[*HELLO, noted, ask])["messages"] == [*HELLO, plain, ask]
    empty = {**message, "content": None}
    assert sent(messages=[*HELLO, empty, ask])["messages"][1] == {**plain, "content": ""}
    called = {**message, "content": None, "tool_calls": [{**CALL, "index": None}]}
    told = {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "rain"}], "name": "weather"}
    turns = sent(messages=[*HELLO, called, told])["messages"]
    assert turns[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert turns[2] == {"role": "tool", "tool_call_id": "c1", "content": "rain"}


def test_a_developer_speaks_as_the_system() -> None:
    turns = [{"role": "developer", "content": "s"}, *HELLO]
    assert sent(messages=turns)["messages"][0]["role"] == "system"
    merged = sent(target=endpoint(merge_system=True), messages=turns)["messages"]
    assert merged == [{"role": "user", "content": "s\n\nhello"}]
    assert refusal(target=endpoint(lost_system=("first",)), messages=turns).code == "system_role"


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": "x", "reasoning": CONTROL},
        {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": CONTROL, "arguments": "{}"}}]},
        {
            "role": "assistant",
            "tool_calls": [{**CALL, "function": {"name": "f", "arguments": json.dumps({"a": CONTROL})}}],
        },
        {
            "role": "assistant",
            "tool_calls": [{**CALL, "function": {"name": "f", "arguments": '{"a": "<\\u007cend|>"}'}}],
        },
        {"role": "assistant", "tool_calls": [{**CALL, "id": CONTROL}]},
        {"role": "tool", "tool_call_id": "c", "content": CONTROL},
        {"role": "tool", "tool_call_id": CONTROL, "content": "x"},
    ],
)
def test_no_part_of_a_message_forges_a_turn(turn: dict[str, Any]) -> None:
    assert refusal(messages=[*HELLO, turn, *HELLO]).code == "special_token"


@pytest.mark.parametrize("place", ["name", "description", "parameters"])
def test_no_part_of_a_tool_forges_a_turn(place: str) -> None:
    value: Any = {"type": "object", "properties": {CONTROL: STRING}} if place == "parameters" else CONTROL
    tool = {"type": "function", "function": {**TOOL["function"], place: value}}  # type: ignore[dict-item]
    assert refusal(tools=[tool]).code in ("special_token", "invalid_value")
    flat = {"type": "function", **tool["function"]}  # type: ignore[dict-item]
    assert refusal(RESPONSES, tools=[flat]).code in ("special_token", "invalid_value")


def test_tools_and_their_choice() -> None:
    body = sent(tools=[{**TOOL, "function": {**TOOL["function"], "strict": None}}])  # type: ignore[dict-item]
    assert (body["tools"], body["tool_choice"]) == ([TOOL], "auto")
    named = {"type": "function", "function": {"name": "weather"}}
    assert sent(tools=[TOOL], tool_choice=named)["tool_choice"] == named
    body = sent(
        RESPONSES, tools=[{"type": "function", "name": "weather", "parameters": SCHEMA}], tool_choice="required"
    )
    assert body["tools"] == [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]
    assert sent(RESPONSES, tools=body["tools"], tool_choice={"type": "function", "name": "weather"})["tool_choice"] == {
        "type": "function",
        "name": "weather",
    }
    for choice in ("maybe", {"type": "function", "function": {"name": "other"}}, {"type": "allowed_tools"}, 5):
        assert refusal(tools=[TOOL], tool_choice=choice).param == "tool_choice"
    assert refusal(tool_choice="required").param == "tool_choice"
    for tools in (
        "x",
        [5],
        [{"type": "web_search"}],
        [{"type": "function"}],
        [TOOL] * 129,
        [{"type": "function", "function": {"name": "a b"}}],
        [{"type": "function", "function": {"name": "f", "parameters": 5}}],
        [{"type": "function", "function": {"name": "f", "description": "x" * 200_000}}],
    ):
        assert (refusal(tools=tools).param or "").startswith("tools")


def test_arguments_of_a_call_that_is_certain_obey_their_schema_unless_the_client_says_no() -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    for choice, default in (("auto", None), ("none", None), ("required", True), (named, True)):
        for given, strict in ((None, default), (True, True), (False, False)):
            tool = {"type": "function", "function": {**TOOL["function"], "strict": given}}  # type: ignore[dict-item]
            (passed,) = sent(tools=[tool], tool_choice=choice)["tools"]
            assert passed["function"].get("strict") is strict


def test_tools_where_the_template_or_a_parser_is_missing() -> None:
    without = endpoint(takes_tools=False, tool_parser=None)
    assert refusal(target=without, tools=[TOOL]).code == "tools_unsupported"
    assert sent(target=without, tools=[TOOL], tool_choice="none") == sent(target=without)
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert refusal(target=without, messages=[*HELLO, called]).code == "tools_unsupported"
    unread = endpoint(tool_parser=None)
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("auto", "required", named):
        assert "tool_call_parser=" in refusal(target=unread, tools=[TOOL], tool_choice=choice).message
    assert sent(target=unread, tools=[TOOL], tool_choice="none")["tool_choice"] == "none"
    unknown = endpoint(takes_tools=None, tool_parser=None)  # a row that an earlier version wrote
    assert sent(target=unknown, tools=[TOOL])["tools"] == [TOOL]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = STRING
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        5,
        None,
        [],
        nested(40),
        nested(5000),
        {"type": "array", "items": STRING, "maxItems": 10**9},
        {"type": "string", "minLength": 1e6},
        {"enum": list(range(1001))},
        {"$ref": "http://x/y"},
        {"$ref": "file:///etc"},
        {"type": "string", "pattern": "(a{1000}){1000}"},
        {"type": "string", "pattern": "a{5000,}"},
        {"type": "string", "pattern": "a" * 600},
        {"type": "object", "properties": {"x" * 70_000: STRING}},
        {"anyOf": [{"type": "array", "minItems": 5000}]},
    ],
)
def test_schemas_without_end_are_refused(schema: Any) -> None:
    with pytest.raises(ApiError) as refused:
        check_schema(schema, "schema")
    assert refused.value.status == 400
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert refusal(response_format=form).param == "response_format.json_schema.schema"
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    assert refusal(RESPONSES, text=text).param == "text.format.schema"


@pytest.mark.parametrize(
    "form",
    [
        "json",
        {"type": "grammar"},
        {},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"schema": {}}},
        {"type": "json_schema", "json_schema": {"name": "x y", "schema": {}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "more": 1}},
    ],
)
def test_other_forms_of_answers_are_refused(form: Any) -> None:
    assert (refusal(response_format=form).param or "").startswith("response_format")


def test_items_of_responses_are_turns() -> None:
    items = [
        {"role": "developer", "content": "s"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}], "id": "m1"},
        {
            "type": "reasoning",
            "id": "r1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "encrypted_content": None,
            "status": None,
        },
        {
            "type": "function_call",
            "id": "f1",
            "call_id": "c1",
            "name": "weather",
            "arguments": "{}",
            "status": "completed",
        },
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {
            "type": "message",
            "id": "m2",
            "status": "completed",
            "role": "assistant",
            "phase": None,
            "content": [{"type": "output_text", "text": "wet", "annotations": [], "logprobs": None}],
        },
    ]
    body = sent(RESPONSES, input=items, instructions="be brief")
    assert body["instructions"] == "be brief"
    assert body["store"] is False
    assert [item["type"] for item in body["input"]] == [
        "message",
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert body["input"][0] == {"type": "message", "role": "system", "content": "s"}
    assert body["input"][5] == {"type": "message", "role": "assistant", "content": "wet"}
    merged = sent(RESPONSES, endpoint(merge_system=True), input=items[:2], instructions="i")
    assert merged["input"] == [{"type": "message", "role": "user", "content": "i\n\ns\n\nq"}]
    assert "instructions" not in merged


@pytest.mark.parametrize(
    "item, code",
    [
        ({"type": "item_reference", "id": "x"}, "invalid_value"),
        ({"type": "computer_call"}, "invalid_value"),
        ({"type": "reasoning", "encrypted_content": "x"}, "invalid_value"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}, "not_text"),
        ({"role": "user", "content": CONTROL}, "special_token"),
        ({"role": "user", "content": "x", "y": 1}, "unknown_field"),
        ({"type": "function_call", "name": "f", "arguments": "{}", "y": 1}, "unknown_field"),
        ({"type": "function_call", "name": 5, "arguments": "{}"}, "invalid_value"),
        ({"type": "function_call_output", "call_id": "c", "output": CONTROL}, "special_token"),
        ({"type": "reasoning", "content": [{"text": CONTROL}]}, "special_token"),
        ({"type": "reasoning", "content": 5}, None),
        ({"type": ["x"]}, "invalid_value"),
        ({"role": "robot", "content": "x"}, None),
    ],
)
def test_other_items_are_refused(item: Any, code: str | None) -> None:
    error = refusal(RESPONSES, input=[*HELLO, item])
    assert error.code == code or code is None


def test_instructions_cannot_forge_a_turn() -> None:
    assert refusal(RESPONSES, instructions=CONTROL).code == "special_token"


@pytest.mark.parametrize(
    "messages",
    [
        [5],
        [None],
        {},
        None,
        [{"role": ["x"], "content": "y"}],
        [{"content": "y"}],
        [{"role": "assistant", "content": "y", "tool_calls": 5}],
        [{"role": "assistant", "tool_calls": [5]}],
        [{"role": "assistant", "tool_calls": [{"function": 5}]}],
        [{"role": "assistant", "annotations": [1], "content": "x"}],
        [{"role": "user", "content": "x", "tool_calls": [CALL]}],
        [{"role": "function", "content": "x", "name": "f"}],
        [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "\\ud83d"}'}}]}],
    ],
)
def test_other_messages_are_refused(messages: Any) -> None:
    assert refusal(messages=messages).param == "messages"


def test_a_call_that_was_cut_does_not_end_the_conversation() -> None:
    cut = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"city": "Os'}}
    turns = sent(messages=[*HELLO, {"role": "assistant", "content": None, "tool_calls": [cut]}, *HELLO])["messages"]
    assert turns[1]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    "raw, code",
    [
        (b'{"a": "\\ud83d"}', "broken_text"),
        (b'{"\\ud83d": 1}', "broken_text"),
        (b'{"a": "\xff"}', "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b'{"a": 1e999}', "invalid_json"),
        (b"", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"a": "\\ud83d\\ude00"', "invalid_json"),
    ],
)
def test_bodies_that_are_no_json(raw: bytes, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse(raw)
    assert (refused.value.status, refused.value.code) == (400, code)


def test_pydantics_faults_become_one_sentence() -> None:
    dump = (
        "2 validation errors:\n  {'type': 'int_parsing', 'loc': ('body', 'seed', 'int'), "
        "'msg': 'Input should be a valid integer', 'input': 'x'}\n"
        "  {'type': 'x', 'loc': ('body', 'n'), 'msg': \"Can't\", 'input': 1}"
    )
    assert one_sentence(dump) == "seed: Input should be a valid integer"
    assert one_sentence("[{'loc': ('body',), 'msg': \"Can't\", 'x': 1}]") == "Can't"
    assert one_sentence("1 validation error: {'type': 'x', 'loc': 'body.seed', 'msg': 'No', 'input': 1}") == "seed: No"
    assert one_sentence("a\n  b") == "a b"
    assert len(one_sentence("x" * 5000)) == 501


def test_megabytes_hold_up_the_event_loop_less_than_json_would() -> None:
    """The gateway reads bodies and answers in its event loop, where every stream waits for it."""
    ids = json.dumps({"model": "x", "prompt": [[index % 50_000 for index in range(560_000)]]}).encode()
    padding = [{"token": "x" * 50, "logprob": -1.25}] * 230_000
    answer = json.dumps(chat_answer({"model": "m"}) | {"prompt_logprobs": padding}).encode()

    def seconds(work: Callable[[], object]) -> float:
        took = []
        for _ in range(3):
            begin = time.thread_time()
            work()
            took.append(time.thread_time() - begin)
        return min(took)

    assert seconds(lambda: encode(parse(ids))) < 0.6 * seconds(lambda: json.dumps(json.loads(ids)).encode())
    assert seconds(lambda: parse_usage(answer, "m")) < 0.6 * seconds(lambda: json.loads(answer))
