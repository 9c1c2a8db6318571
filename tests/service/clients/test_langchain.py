"""LangChain's ChatOpenAI against the service and real engines."""

from __future__ import annotations

from typing import Any, Literal

import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.support.live_service import Running
from tests.support.tool_caller import CALLS

pytestmark = pytest.mark.integration
QUESTIONS = ["how is the water", "what is the weather", "who was it"]


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Oslo", "Rome"]
    warm: bool


@tool
def weather(city: Literal["Oslo", "Rome"], warm: bool) -> str:
    """The weather of a city."""
    return f"{city}: {'sun' if warm else 'rain'}"


def model(gateway: Running, key: str, name: str = "policy/production", tokens: int = 12, **fields: Any) -> ChatOpenAI:
    given: Any = {"model": name, "base_url": f"{gateway.url}/v1", "api_key": key, "max_tokens": tokens, **fields}
    return ChatOpenAI(temperature=0, max_retries=0, **given)


def test_invoke_stream_and_batch_say_the_same(gateway: Running, key: str, client: openai.OpenAI) -> None:
    chat = model(gateway, key)
    expected = []
    for question in QUESTIONS:
        answer = client.chat.completions.create(
            model="policy/production", messages=[{"role": "user", "content": question}], temperature=0, max_tokens=12
        )
        expected.append(answer.choices[0].message.content)
    invoked = chat.invoke(QUESTIONS[0])
    assert invoked.content == expected[0]
    assert invoked.usage_metadata is not None
    assert 1 <= invoked.usage_metadata["output_tokens"] <= 12
    chunks = list(chat.stream(QUESTIONS[0]))
    assert "".join(str(chunk.content) for chunk in chunks) == expected[0]
    assert [answer.content for answer in chat.batch(QUESTIONS)] == expected
    history = [HumanMessage(QUESTIONS[0]), invoked, HumanMessage(QUESTIONS[1])]
    assert chat.invoke(history).content


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_object_of_the_class(gateway: Running, key: str, caller: str, method: Any) -> None:
    structured = model(gateway, key, caller, 100).with_structured_output(Weather, method=method)
    assert isinstance(structured.invoke(QUESTIONS[1]), Weather)


def test_tools_are_called_and_what_they_say_is_taken(gateway: Running, key: str, caller: str) -> None:
    chat = model(gateway, key, caller, 400).bind_tools([weather])
    answer = chat.invoke(QUESTIONS[1])
    calls: Any = answer.tool_calls  # type: ignore[attr-defined]
    assert [(call["name"], call["args"]) for call in calls] == [("weather", arguments) for arguments in CALLS]
    said: list[Any] = [weather.invoke(call) for call in calls]
    assert all(isinstance(message, ToolMessage) for message in said)
    assert said[1].content == "Rome: sun"
    assert chat.invoke([HumanMessage(QUESTIONS[1]), answer, *said]).usage_metadata  # type: ignore[attr-defined]
    forced = model(gateway, key, caller, 400).bind_tools([weather], tool_choice="weather", parallel_tool_calls=False)
    (call,) = forced.invoke(QUESTIONS[2]).tool_calls  # type: ignore[attr-defined]
    assert set(call["args"]) == {"city", "warm"}


def test_the_responses_api_is_spoken_too(gateway: Running, key: str) -> None:
    by_responses = model(gateway, key, use_responses_api=True).invoke(QUESTIONS[0])
    assert by_responses.text == model(gateway, key).invoke(QUESTIONS[0]).text
