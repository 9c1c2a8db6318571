"""The client against a real HTTP server: retries, refusals, and errors that stop a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from evals.client import Client, Refused, Sampling, each, in_batches
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
Handler = Callable[[web.Request], Awaitable[web.Response]]


def ask(handler: Handler, use: Callable[[Client], Awaitable[Any]]) -> Any:
    """Run a server with one handler for every route, and use a client on it."""

    async def run() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        async with TestServer(app) as server, Client(str(server.make_url("")).rstrip("/")) as client:
            return await use(client)

    return asyncio.run(run())


def chat_answer(text: str) -> web.Response:
    return web.json_response({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]})


def error(status: int, message: str, **headers: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": None}}, status=status, headers=headers)


def test_a_busy_service_is_asked_again() -> None:
    calls = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(await request.json())
        return chat_answer("yes") if len(calls) == 3 else error(503, "full", **{"Retry-After": "0"})

    answer = ask(handler, lambda c: c.chat("m", [{"role": "user", "content": "?"}], Sampling()))
    assert (answer.text, len(calls)) == ("yes", 3)
    messages = [{"role": "user", "content": "?"}]
    assert calls[0] == {"model": "m", "messages": messages, "temperature": 0.0, "max_tokens": 64, "top_p": 1.0}


def test_a_refused_prompt_is_missing_with_a_reason_that_can_be_counted() -> None:
    async def handler(request: web.Request) -> web.Response:
        content = (await request.json())["messages"][0]["content"]
        if content == "long":
            return error(400, "This model's maximum context length is 256 tokens. However, you sent 300.")
        return chat_answer(content)

    async def use(client: Client) -> list[Any]:
        async def one(text: str) -> str:
            return (await client.chat("m", [{"role": "user", "content": text}], Sampling())).text

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


def test_a_dead_service_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for hours until every request of every suite has failed on its own."""
    monkeypatch.setattr("evals.client.ATTEMPTS", 1)
    calls = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(1)
        return error(500, "broken")

    async def use(client: Client) -> Any:
        asked = [{"role": "user", "content": "?"}]
        return await each(range(500), lambda _: client.chat("m", asked, Sampling()), "asking", concurrency=4)

    with pytest.raises(UserError, match="failed 20 requests in a row"):
        ask(handler, use)
    assert len(calls) < 30


def test_a_refused_key_stops_the_run() -> None:
    async def handler(request: web.Request) -> web.Response:
        return error(401, "unknown key")

    with pytest.raises(UserError, match=r"unknown key.*scope eval"):
        ask(handler, lambda c: c.chat("m", [{"role": "user", "content": "?"}], Sampling()))


def test_a_service_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.client.ATTEMPTS", 1)

    async def run() -> None:
        async with Client(f"http://127.0.0.1:{unused_port()}") as client:
            await client.models()

    with pytest.raises(UserError, match="does not answer"):
        asyncio.run(run())


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
    ask(handler, lambda client: client.chat("m", parts, Sampling()))
    assert sent == [[{"role": "user", "content": "a b"}]]
