"""The current `openai` client against the service and real engines.

First fifteen calls, as OpenAI's documentation and today's applications make them, each with the effect that it names;
then what else clients send, and what is refused by a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import openai
import pytest

from service.bodies.documented import answer_model
from service.engines.protocol import CHAT, COMPLETIONS, RESPONSES
from tests.support.tool_caller import CALLS, SCHEMA
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration
MODEL = "policy/production"
HELLO: list[Any] = [{"role": "user", "content": "how is the water"}]
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12}
WEATHER: Any = {"name": "weather", "description": "the weather of a city", "parameters": SCHEMA}
TOOLS: Any = [{"type": "function", "function": WEATHER}]
LONG = 400  # tokens: more than two calls take


def chat(client: openai.OpenAI, messages: Any = HELLO, **fields: Any) -> Any:
    return client.chat.completions.create(**{**GREEDY, "messages": messages, **fields})


def joined(chunks: Iterable[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def check_schema(text: str) -> None:
    value = json.loads(text)
    assert set(value) == {"city", "warm"}
    assert value["city"] in ("Oslo", "Rome")
    assert isinstance(value["warm"], bool)


def called(calls: Any) -> list[Any]:
    """Arguments of calls of the one tool, in order."""
    assert {call.function.name for call in calls} <= {"weather"}
    return [json.loads(call.function.arguments) for call in calls]


# Fifteen calls.


def test_1_models(client: openai.OpenAI, tiny_policy: Checkpoint) -> None:
    assert {MODEL, tiny_policy.id} <= {model.id for model in client.models.list()}


def test_2_retrieve(client: openai.OpenAI, tiny_policy: Checkpoint) -> None:
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model")
    assert model.model_dump()["root"] == tiny_policy.id


def test_3_chat(client: openai.OpenAI, tiny_policy: Checkpoint) -> None:
    answer = chat(client)
    assert answer.model == tiny_policy.id
    assert 1 <= answer.usage.completion_tokens <= 12
    assert answer.usage.prompt_tokens > 3


def test_4_a_stream_with_usage_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    answer = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert joined(chunks) == answer.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    plain = list(chat(client, stream=True))
    # How many tokens an event holds depends on the load; the event of the usage is the only one without choices.
    assert joined(plain) == answer.choices[0].message.content
    assert all(chunk.usage is None for chunk in plain)


def test_5_responses_whole_and_streamed(client: openai.OpenAI, tiny_policy: Checkpoint) -> None:
    fields: Any = {"model": MODEL, "input": "how is the water", "temperature": 0, "max_output_tokens": 12}
    answer = client.responses.create(**fields)
    assert answer.model == tiny_policy.id
    assert answer.output_text == chat(client).choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.output_tokens <= 12
    events = list(client.responses.create(**fields, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == answer.output_text
    last: Any = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.usage == answer.usage


@pytest.mark.parametrize("stream", [False, True])
def test_6_response_format_is_obeyed(client: openai.OpenAI, stream: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    answer = chat(client, response_format=form, max_tokens=60, stream=stream)
    check_schema(joined(answer) if stream else answer.choices[0].message.content)


def test_7_tools_are_called_where_the_model_chooses_to(client: openai.OpenAI, caller: str) -> None:
    answer = chat(client, model=caller, tools=TOOLS, max_tokens=LONG)
    assert called(answer.choices[0].message.tool_calls) == list(CALLS)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert not answer.choices[0].message.content


def test_8_text_parts(client: openai.OpenAI) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "how is "}, {"type": "text", "text": "the water"}]}]
    assert chat(client, parts).choices == chat(client).choices


def test_9_the_role_developer(client: openai.OpenAI) -> None:
    spoken = [{"role": "developer", "content": "be brief"}, *HELLO]
    assert chat(client, spoken).choices == chat(client, [{"role": "system", "content": "be brief"}, *HELLO]).choices
    assert chat(client, spoken).usage.prompt_tokens > chat(client).usage.prompt_tokens


def test_10_metadata_and_store(client: openai.OpenAI) -> None:
    answer = chat(client, metadata={"a": "b"}, store=True)
    assert answer.choices == chat(client).choices
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(answer.id)  # nothing is stored


def test_11_several_choices_with_log_probabilities(client: openai.OpenAI) -> None:
    answer = chat(client, n=3, temperature=1, seed=1, logprobs=True, top_logprobs=2)
    assert len(answer.choices) == 3
    assert all(len(token.top_logprobs) >= 2 for choice in answer.choices for token in choice.logprobs.content)


def test_12_echo(client: openai.OpenAI) -> None:
    fields: Any = {**GREEDY, "prompt": "the water", "max_tokens": 1}
    (choice,) = client.completions.create(**fields, echo=True, logprobs=1).choices
    assert choice.text.startswith("the water")
    assert choice.logprobs is not None
    values: Any = choice.logprobs.token_logprobs
    assert values[0] is None
    assert all(value <= 0 for value in values[1:])


def test_13_an_answer_is_sent_back_as_it_came_with_its_null_fields(client: openai.OpenAI) -> None:
    message = chat(client).choices[0].message
    ask = {"role": "user", "content": "and now"}
    plain = chat(client, [*HELLO, {"role": "assistant", "content": message.content}, ask]).choices
    padded = {"name": None, "refusal": None, "tool_calls": None, "function_call": None, "audio": None}
    for form in (message, message.model_dump(), {**message.model_dump(), **padded}):
        assert chat(client, [{**HELLO[0], "name": "ada"}, form, ask]).choices == plain


def test_14_parallel_tool_calls(client: openai.OpenAI, caller: str) -> None:
    for parallel, calls in ((True, list(CALLS)), (False, [CALLS[0]])):
        answer = chat(client, model=caller, tools=TOOLS, parallel_tool_calls=parallel, max_tokens=LONG)
        assert called(answer.choices[0].message.tool_calls) == calls


def test_15_reasoning_effort(client: openai.OpenAI) -> None:
    # The template knows no thoughts, so that the answer is the same.
    assert chat(client, reasoning_effort="low").choices == chat(client).choices


# More of tools.


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_tool_that_must_be_called_is_called_even_by_a_random_model(client: openai.OpenAI, choice: Any) -> None:
    # Short enough for the 256 tokens of this model, of which the tool takes most.
    parameters = {"properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    fields: Any = {"tools": [tool], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 80}
    message = chat(client, [{"role": "user", "content": "hi"}], **fields).choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "f"
    assert json.loads(call.function.arguments)["a"] in (1, 2)
    # The call is a turn of the conversation as it came, and so is what the tool says.
    history = [*HELLO, message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert chat(client, history, max_tokens=5).usage.completion_tokens > 0


def test_calls_are_streamed_as_they_are_told_whole(client: openai.OpenAI, caller: str) -> None:
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    reasons = []
    for chunk in chat(client, model=caller, tools=TOOLS, max_tokens=LONG, stream=True):
        reasons += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            names[call.index] = names.get(call.index, "") + (call.function.name or "")
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert names == {0: "weather", 1: "weather"}
    assert [json.loads(text) for _, text in sorted(arguments.items())] == list(CALLS)
    assert reasons == ["tool_calls"]


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "name": "weather"}])
def test_responses_call_tools_and_take_what_they_say(client: openai.OpenAI, caller: str, choice: Any) -> None:
    fields: Any = {"model": caller, "temperature": 0, "max_output_tokens": LONG}
    tool: Any = {"type": "function", **WEATHER}
    answer = client.responses.create(**fields, input=HELLO, tools=[tool], tool_choice=choice)
    calls: Any = [item for item in answer.output if item.type == "function_call"]
    for call in calls:
        assert call.name == "weather"
        check_schema(call.arguments)
    if choice == "auto":
        assert [json.loads(call.arguments) for call in calls] == list(CALLS)
    assert calls
    history: Any = [*HELLO, *[item.model_dump() for item in answer.output]]
    history += [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls]
    again = client.responses.create(**{**fields, "input": history, "max_output_tokens": 5}, tools=[tool])
    assert again.usage is not None
    assert again.usage.output_tokens > 0


def test_a_model_may_choose_no_tool(client: openai.OpenAI) -> None:
    for choice in ("auto", "none"):
        answer = chat(client, tools=TOOLS, tool_choice=choice)
        assert answer.choices[0].message.content
        assert not answer.choices[0].message.tool_calls
    assert joined(chat(client, tools=TOOLS, stream=True)) == chat(client, tools=TOOLS).choices[0].message.content


# More of the rest.


def test_answers_are_as_they_are_documented(client: openai.OpenAI, caller: str) -> None:
    """The engine's own bytes, which nothing on their way checks, against the models of the OpenAPI document."""
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        (CHAT, {"messages": HELLO, "n": 2, "temperature": 1, "logprobs": True, "top_logprobs": 1}),
        (CHAT, {"model": caller, "messages": HELLO, "tools": TOOLS, "max_tokens": LONG}),
        (CHAT, {"messages": HELLO, "temperature": 1, "rank_by": "reward", "best_of": 2}),
        (COMPLETIONS, {"prompt": "the water", "echo": True, "logprobs": 1}),
        (RESPONSES, {"input": "how is the water", "max_tokens": None, "max_output_tokens": 8}),
    )
    for path, fields in asked:
        body = {**GREEDY, **fields}
        reply: Any = client.post(path.removeprefix("/v1"), body=body, cast_to=object)
        answer = answer_model(path).model_validate(reply, strict=True)
        assert answer.model_dump()["usage"]


def test_completions_stream_the_same_text(client: openai.OpenAI) -> None:
    fields: Any = {**GREEDY, "prompt": "the water"}
    chunks = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    answer = client.completions.create(**fields)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == answer.choices[0].text
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_responses_take_instructions_lists_and_their_own_output(client: openai.OpenAI) -> None:
    fields: Any = {"model": MODEL, "temperature": 0, "max_output_tokens": 8, "store": True, "metadata": {"a": "b"}}
    first = client.responses.create(**fields, instructions="be brief", input=HELLO)
    assert first.instructions == "be brief"
    history: Any = [{"role": "developer", "content": "be brief"}, *HELLO, *[item.model_dump() for item in first.output],
                    {"role": "user", "content": [{"type": "input_text", "text": "and now"}]}]  # fmt: skip
    second = client.responses.create(**fields, input=history)
    by_chat = chat(client, [
        {"role": "system", "content": "be brief"}, *HELLO, {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "and now"},
    ], max_tokens=8)  # fmt: skip
    assert second.output_text == by_chat.choices[0].message.content


def test_responses_with_a_schema(client: openai.OpenAI) -> None:
    fields: Any = {"model": MODEL, "input": "what is the weather", "temperature": 0}
    text: Any = {"format": {"type": "json_schema", "name": "weather", "schema": SCHEMA, "strict": True}}
    check_schema(client.responses.create(**fields, text=text).output_text)


def test_any_json_and_plain_text_are_forms_too(client: openai.OpenAI) -> None:
    assert chat(client, response_format={"type": "json_object"}, max_tokens=60).choices[0].message.content[0] in "{ \n"
    assert chat(client, response_format={"type": "text"}).choices == chat(client).choices


def test_fields_that_change_nothing(client: openai.OpenAI) -> None:
    plain = chat(client).choices
    for fields in (
        {"service_tier": "auto", "user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "verbosity": "low"},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "logit_bias": {}, "n": 1},
    ):
        assert chat(client, **fields).choices == plain
    fields = {**GREEDY, "prompt": "the water"}
    assert (
        client.completions.create(**fields, best_of=1, suffix="").choices == client.completions.create(**fields).choices
    )


# What is refused.


@pytest.mark.parametrize(
    "field, value", [("previous_response_id", "resp_1"), ("background", True), ("conversation", "conv_1")]
)
def test_what_would_need_storage_is_refused_by_a_sentence(client: openai.OpenAI, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input="x", **{field: value})
    assert refused.value.param == field
    assert refused.value.code == "unsupported_field"


def test_embeddings_are_refused_by_a_sentence(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client.embeddings.create(model=MODEL, input="x")


def test_pydantics_list_of_faults_becomes_a_sentence(client: openai.OpenAI) -> None:
    for fields in ({"seed": "x"}, {"temperature": "hot"}, {"stop": {"a": 1}}, {"logit_bias": [1]}):
        with pytest.raises(openai.BadRequestError) as refused:
            chat(client, **fields)
        message = refused.value.body["message"]  # type: ignore[index]
        print(message)
        assert "{'" not in message
        assert "validation error" not in message
        assert message.startswith(next(iter(fields)))
