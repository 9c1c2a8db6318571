"""The client against a real HTTP server: what is sent, what answers mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from evals.client import Client
from evals.concurrently import each, in_batches
from evals.generation import Answer, Sampling
from evals.transport import Refused
from tests.support.one_server import MESSAGES, ask, chat_answer, error
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def test_a_refused_prompt_is_missing_with_a_reason_that_can_be_counted() -> None:
    async def handler(request: web.Request) -> web.Response:
        content = (await request.json())["messages"][0]["content"]
        if content == "long":
            return error(400, "This model's maximum context length is 256 tokens. However, you sent 300.")
        return chat_answer(content)

    async def use(client: Client) -> list[Any]:
        async def one(text: str) -> str:
            (answer,) = await client.generate("m", [{"role": "user", "content": text}], Sampling())
            return answer.text

        return await each(["a", "long", "b"], one, "")

    first, second, third = ask(handler, use)
    assert (first, third) == ("a", "b")
    assert isinstance(second, Refused)
    assert second.reason == "longer than the model's context"


def test_one_refused_text_does_not_spoil_its_batch() -> None:
    async def handler(request: web.Request) -> web.Response:
        prompts = (await request.json())["prompt"]
        if "bad" in prompts:
            return error(400, "no")
        values = [{"token_logprobs": [None, 96.0 - ord(p)], "top_logprobs": [None, {p: 0.0}]} for p in prompts]
        return web.json_response({"choices": [{"index": i, "logprobs": v} for i, v in enumerate(values)]})

    async def use(client: Client) -> list[Any]:
        return await in_batches(["a", "bad", "c"], lambda batch: client.logprobs("m", batch), "")

    first, second, third = ask(handler, use)
    assert (first.logprobs, third.logprobs) == ([None, -1.0], [None, -3.0])
    assert isinstance(second, Refused)


def test_a_response_that_cannot_be_scored_is_none() -> None:
    async def handler(request: web.Request) -> web.Response:
        rows = [{"index": 1, "score": 0.25, "raw": 0.5}, {"index": 0, "error": {"message": "too long"}}]
        return web.json_response({"data": rows})

    conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    assert ask(handler, lambda c: c.rewards("r", [conversation, conversation])) == [None, 0.25]


def test_log_probabilities_know_greedy_tokens() -> None:
    async def handler(request: web.Request) -> web.Response:
        logprobs = {"token_logprobs": [None, -0.1, -3.0], "top_logprobs": [None, {"a": -0.1}, {"b": -3.0, "c": -0.2}]}
        return web.json_response({"choices": [{"index": 0, "logprobs": logprobs}]})

    scored = ask(handler, lambda c: c.logprobs("m", ["x a b"]))[0]
    assert scored.greedy == [None, True, False]


def test_text_parts_are_sent_as_text() -> None:
    sent: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        sent.append((await request.json())["messages"])
        return chat_answer("yes")

    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}]
    ask(handler, lambda client: client.generate("m", parts, Sampling()))
    assert sent == [[{"role": "user", "content": "a b"}]]


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": None}, "finish_reason": "content_filter"},
        {"message": {"content": "withheld"}, "finish_reason": "content_filter"},
        {"message": {"content": None, "tool_calls": []}, "finish_reason": "tool_calls"},
        {"message": {}, "finish_reason": "stop"},
    ],
)
def test_no_text_is_no_answer(choice: dict[str, Any]) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"choices": [{"index": 0, **choice}]})

    (answer,) = ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()))
    assert isinstance(answer, Refused)
    assert answer.reason == f"no text came back ({choice['finish_reason']})"


def test_a_missing_choice_is_missing() -> None:
    async def handler(request: web.Request) -> web.Response:
        return chat_answer("only one")

    answers = ask(handler, lambda c: c.generate("m", MESSAGES, Sampling(temperature=1.0), seed=7, samples=3))
    assert answers[0] == Answer("only one", "stop", 7)
    assert [type(answer) for answer in answers[1:]] == [Refused, Refused]


def test_several_samples_come_from_one_request_with_seeds_counted_up() -> None:
    calls = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(await request.json())
        texts = ["c", "a", "b"]
        rows = [{"index": i, "text": t, "finish_reason": "stop"} for i, t in zip((2, 0, 1), texts, strict=True)]
        return web.json_response({"choices": rows})

    answers = ask(handler, lambda c: c.generate("m", "text", Sampling(temperature=1.0), seed=7, samples=3))
    assert [(a.text, a.seed) for a in answers] == [("a", 7), ("b", 8), ("c", 9)]
    assert (len(calls), calls[0]["n"], calls[0]["seed"], calls[0]["prompt"]) == (1, 3, 7, "text")


def test_a_server_without_the_neutral_fields_is_asked_without_them() -> None:
    calls = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.json()
        calls.append(body)
        return error(400, "Unrecognized request argument supplied: top_k") if "top_k" in body else chat_answer("yes")

    async def use(client: Client) -> Any:
        return [await client.generate("m", MESSAGES, Sampling()) for _ in range(2)], client.neutral

    answers, neutral = ask(handler, use)
    assert [answer.text for (answer,) in answers] == ["yes", "yes"]
    assert ["top_k" in body for body in calls] == [True, False, False]
    assert not neutral


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_one_bad_text_is_missing_alone(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr("evals.transport.ATTEMPTS", 1)

    async def handler(request: web.Request) -> web.Response:
        prompts = (await request.json())["prompt"]
        if "bad" in prompts:
            return error(status, "no")
        values = [{"token_logprobs": [None, -1.0], "top_logprobs": [None, {p: -1.0}]} for p in prompts]
        return web.json_response({"choices": [{"index": i, "logprobs": v} for i, v in enumerate(values)]})

    texts = [*"abcdefgh", "bad", *"ijklmnopqrstuvwx"]
    scored = ask(handler, lambda c: in_batches(texts, lambda batch: c.logprobs("m", batch), ""))
    assert [isinstance(value, Refused) for value in scored] == [text == "bad" for text in texts]


def test_a_server_without_log_probabilities_is_one_line() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"choices": [{"index": 0, "text": "a", "logprobs": None}]})

    with pytest.raises(UserError, match="no log-probabilities"):
        ask(handler, lambda c: c.logprobs("m", ["a"]))


FORMS: list[Any] = [
    None, [1], "text", {}, {"error": {"message": "no"}}, {"choices": None}, {"choices": [None]}, {"choices": "abc"},
    {"choices": [{"index": 0, "message": None, "logprobs": 3, "prompt_logprobs": 3}]}, {"data": [3]},
    {"choices": [{"index": None, "text": "a"}, {"index": 1, "text": "b"}]},
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("call", ["generate", "logprobs", "continuations", "next_tokens", "rewards", "tokenize"])
def test_an_answer_of_another_form_is_missing(form: Any, call: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(form)

    async def use(client: Client) -> Any:
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "generate": lambda: client.generate("m", MESSAGES, Sampling()),
            "logprobs": lambda: client.logprobs("m", ["a", "b"]),
            "continuations": lambda: client.continuations("m", [[1, 2]], [1]),
            "next_tokens": lambda: client.next_tokens("m", [[1]], [2]),
            "rewards": lambda: client.rewards("m", [MESSAGES]),
            "tokenize": lambda: client.tokenize("m", ["a"]),
        }
        try:
            return await calls[call]()
        except Refused as refused:
            return [refused]

    rows = ask(handler, use)
    assert rows
    assert all(isinstance(row, Refused) for row in rows)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "null", '"x"', "1e999"])
def test_a_log_probability_that_is_no_number_is_missing(value: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        echo = f'"logprobs": {{"token_logprobs": [null, {value}], "top_logprobs": [null, {{"a": -1}}]}}'
        text = f'{{"choices": [{{"prompt_logprobs": [null, {{"2": {{"logprob": {value}, "rank": 1}}}}], {echo}}}]}}'
        return web.Response(text=text, content_type="application/json")

    with pytest.raises(Refused, match="another form"):
        ask(handler, lambda c: c.continuations("m", [[1, 2]], [1]))
    with pytest.raises(Refused, match="another form"):
        ask(handler, lambda c: c.logprobs("m", ["ab"]))


@pytest.mark.parametrize("numbers", [(0, 0), (-1, 0), (0, 2), (1, 1)])
def test_an_answer_with_the_number_of_another_is_taken_for_none(numbers: tuple[int, int]) -> None:
    """By such numbers the value of one conversation or prompt would stand as that of another."""

    async def handler(request: web.Request) -> web.Response:
        rows = [
            {"index": number, "score": 0.5, "text": "a", "logprobs": [-1.0], "greedy": [True]} for number in numbers
        ]
        return web.json_response({"data": rows, "choices": rows})

    for use in (
        lambda c: c.rewards("r", [MESSAGES, MESSAGES]),
        lambda c: c.generate("m", "text", Sampling(temperature=1.0), seed=1, samples=2),
        lambda c: c.continuations("m", [[1, 2], [1, 3]], [1, 1]),
    ):
        with pytest.raises(Refused, match=r"another form|no log-probabilities"):
            ask(handler, use)


def test_choices_without_numbers_keep_their_order() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"choices": [{"text": "a"}, {"text": "b"}]})

    answers = ask(handler, lambda c: c.generate("m", "text", Sampling(temperature=1.0), seed=1, samples=2))
    assert [answer.text for answer in answers] == ["a", "b"]


def test_a_root_that_the_server_does_not_answer_to_is_no_model() -> None:
    async def handler(request: web.Request) -> web.Response:
        rows = [{"id": "m", "root": "/models/llama"}, {"id": "alias", "root": "id-1"}, {"id": "id-1"}, {"id": "n"}]
        return web.json_response({"data": rows})

    assert ask(handler, lambda c: c.models()) == {"m": "m", "alias": "id-1", "id-1": "id-1", "n": "n"}
