"""The current `openai` client against the service and a real engine: every call answers with the effect it names."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.support.live_service import Running
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration
MODEL = "policy/production"
HELLO: list[Any] = [{"role": "user", "content": "how is the water"}]
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
WEATHER: Any = {"name": "weather", "description": "the weather of a city", "parameters": SCHEMA}
TOOLS: Any = [{"type": "function", "function": WEATHER}]


@pytest.fixture(scope="module")
def client(gateway: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.add_key("generate", "score"), max_retries=0)


def chat(client: openai.OpenAI, messages: Any = HELLO, **fields: Any) -> Any:
    return client.chat.completions.create(**{**GREEDY, "messages": messages, **fields})


def check_schema(text: str) -> None:
    value = json.loads(text)
    assert set(value) == {"city", "warm"}
    assert value["city"] in ("Oslo", "Rome")
    assert isinstance(value["warm"], bool)


def test_models_are_listed_and_retrieved(client: openai.OpenAI, tiny_policy: Checkpoint) -> None:
    assert {MODEL, tiny_policy.id} <= {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).model_dump()["root"] == tiny_policy.id


def test_a_chat_names_its_checkpoint_and_counts_its_tokens(client: openai.OpenAI, tiny_policy: Checkpoint) -> None:
    answer = chat(client)
    assert answer.model == tiny_policy.id
    assert 1 <= answer.usage.completion_tokens <= 12
    assert answer.usage.prompt_tokens > 3


def test_a_stream_says_what_an_answer_says_with_its_usage(client: openai.OpenAI) -> None:
    answer = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    plain = list(chat(client, stream=True))
    # How many tokens an event holds depends on the load; the event of the usage is the only one without choices.
    assert "".join(c.choices[0].delta.content or "" for c in plain) == answer.choices[0].message.content
    assert all(chunk.usage is None for chunk in plain)


def test_completions_stream_the_same_text(client: openai.OpenAI) -> None:
    fields: Any = {**GREEDY, "prompt": "the water"}
    chunks = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    answer = client.completions.create(**fields)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == answer.choices[0].text
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_responses_whole_and_streamed(client: openai.OpenAI, tiny_policy: Checkpoint) -> None:
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


@pytest.mark.parametrize(
    "field, value", [("previous_response_id", "resp_1"), ("background", True), ("conversation", "conv_1")]
)
def test_what_would_need_storage_is_refused_by_a_sentence(client: openai.OpenAI, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input="x", **{field: value})
    assert refused.value.param == field
    assert refused.value.code == "unsupported_field"


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_is_obeyed(client: openai.OpenAI, stream: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    answer = chat(client, response_format=form, max_tokens=60, stream=stream)
    if stream:
        check_schema("".join(chunk.choices[0].delta.content or "" for chunk in answer))
    else:
        check_schema(answer.choices[0].message.content)


def test_any_json_and_plain_text_are_forms_too(client: openai.OpenAI) -> None:
    assert chat(client, response_format={"type": "json_object"}, max_tokens=60).choices[0].message.content[0] in "{ \n"
    assert chat(client, response_format={"type": "text"}).choices == chat(client).choices


def test_a_model_may_choose_no_tool(client: openai.OpenAI) -> None:
    for choice in ("auto", "none"):
        answer = chat(client, tools=TOOLS, tool_choice=choice)
        assert answer.choices[0].message.content
    streamed = list(chat(client, tools=TOOLS, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == chat(client, tools=TOOLS).choices[0].message.content


def test_text_parts_and_the_role_developer(client: openai.OpenAI) -> None:
    parts = [{"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]}]
    assert (
        chat(client, [*parts, *HELLO]).choices
        == chat(client, [{"role": "system", "content": "be brief"}, *HELLO]).choices
    )


def test_fields_that_change_nothing(client: openai.OpenAI) -> None:
    plain = chat(client).choices
    for fields in (
        {"metadata": {"a": "b"}, "store": True, "service_tier": "auto", "user": "u", "safety_identifier": "s"},
        {"prompt_cache_key": "k", "verbosity": "low", "reasoning_effort": "low", "parallel_tool_calls": True},
        {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "logit_bias": {}, "n": 1},
    ):
        assert chat(client, **fields).choices == plain
    fields = {**GREEDY, "prompt": "the water"}
    assert (
        client.completions.create(**fields, best_of=1, suffix="").choices == client.completions.create(**fields).choices
    )


def test_several_choices_with_log_probabilities_and_echo(client: openai.OpenAI) -> None:
    answer = chat(client, n=3, temperature=1, seed=1, logprobs=True, top_logprobs=2)
    assert len(answer.choices) == 3
    assert all(len(token.top_logprobs) >= 2 for choice in answer.choices for token in choice.logprobs.content)
    fields: Any = {**GREEDY, "prompt": "the water", "max_tokens": 1}
    (choice,) = client.completions.create(**fields, echo=True, logprobs=1).choices
    assert choice.text.startswith("the water")
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])


def test_an_answer_is_sent_back_as_it_came(client: openai.OpenAI) -> None:
    message = chat(client).choices[0].message
    ask = {"role": "user", "content": "and now"}
    plain = chat(client, [*HELLO, {"role": "assistant", "content": message.content}, ask]).choices
    padded = {"name": None, "refusal": None, "tool_calls": None, "function_call": None, "audio": None}
    for form in (message, message.model_dump(), {**message.model_dump(), **padded}):
        assert chat(client, [{**HELLO[0], "name": "ada"}, form, ask]).choices == plain


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
