"""LiteLLM as a client of the service and real engines."""

from __future__ import annotations

import json
import os
from typing import Any

import openai
import pytest

from tests.support.live_service import Running
from tests.support.tool_caller import CALLS, SCHEMA

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or importing it asks the network for prices
import litellm

pytestmark = pytest.mark.integration
HELLO: list[Any] = [{"role": "user", "content": "how is the water"}]


@pytest.fixture(scope="module")
def given(gateway: Running, key: str) -> dict[str, Any]:
    """What every call is given."""
    return {"api_base": f"{gateway.url}/v1", "api_key": key, "temperature": 0, "num_retries": 0}


def test_chats_whole_and_streamed(given: dict[str, Any], client: openai.OpenAI) -> None:
    fields: Any = {"model": "openai/policy/production", "messages": HELLO, "max_tokens": 12, **given}
    answer = litellm.completion(**fields)
    own = client.chat.completions.create(model="policy/production", messages=HELLO, temperature=0, max_tokens=12)
    assert answer.choices[0].message.content == own.choices[0].message.content
    assert own.usage is not None
    assert answer.usage.completion_tokens == own.usage.completion_tokens
    chunks = list(litellm.completion(**fields, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == (
        answer.choices[0].message.content
    )
    again = [*HELLO, answer.choices[0].message, {"role": "user", "content": "and now"}]
    assert litellm.completion(**{**fields, "messages": again}).choices[0].message.content


def test_completions(given: dict[str, Any], client: openai.OpenAI) -> None:
    answer = litellm.text_completion(
        model="text-completion-openai/policy/production", prompt="the water", max_tokens=8, **given
    )
    own = client.completions.create(model="policy/production", prompt="the water", temperature=0, max_tokens=8)
    assert answer.choices[0].text == own.choices[0].text


def test_a_schema_is_obeyed(given: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    answer = litellm.completion(
        model="openai/policy/production", messages=HELLO, max_tokens=60, response_format=form, **given
    )
    assert set(json.loads(answer.choices[0].message.content)) == {"city", "warm"}


def test_tools_are_called(given: dict[str, Any], caller: str) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    answer = litellm.completion(model=f"openai/{caller}", messages=HELLO, max_tokens=400, tools=tools, **given)
    calls = answer.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == list(CALLS)


def test_refusals_are_its_own_exceptions(given: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError, match="does not exist"):
        litellm.completion(model="openai/gpt-9", messages=HELLO, **given)
    with pytest.raises(litellm.BadRequestError, match="makes no embeddings"):
        litellm.embedding(
            model="openai/policy/production", input=["x"], api_base=given["api_base"], api_key=given["api_key"]
        )
