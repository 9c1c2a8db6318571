"""Requests to a real HTTP server: retries, bounded waiting, and errors that stop a run."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from evals.client import Client
from evals.concurrently import each
from evals.generation import NEUTRAL, Sampling
from evals.transport import Refused
from tests.support.one_server import MESSAGES, ask, chat_answer, error
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def test_a_busy_service_is_asked_again() -> None:
    calls = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(await request.json())
        return chat_answer("yes") if len(calls) == 3 else error(503, "full", **{"Retry-After": "0"})

    (answer,) = ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()))
    assert (answer.text, len(calls)) == ("yes", 3)
    greedy = {"temperature": 0.0, "max_tokens": 64, "top_p": 1.0}
    assert calls[0] == {"model": "m", "messages": MESSAGES, **greedy, **NEUTRAL}


@pytest.mark.parametrize("status", [404, 500])
def test_a_dead_service_is_asked_no_more(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Nobody waits for hours until every request of every suite has failed on its own; what is left is missing."""
    monkeypatch.setattr("evals.transport.ATTEMPTS", 1)
    calls = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(1)
        return error(status, "broken")

    async def use(client: Client) -> Any:
        return await each(range(500), lambda _: client.generate("m", MESSAGES, Sampling()), "asking", concurrency=4)

    answers = ask(handler, use)
    assert len(calls) < 30
    assert all(isinstance(answer, Refused) for answer in answers)
    assert "not asked any more after 20 failures in a row" in answers[-1].reason


def test_a_refused_key_stops_the_run() -> None:
    async def handler(request: web.Request) -> web.Response:
        return error(401, "unknown key")

    with pytest.raises(UserError, match=r"unknown key.*scope eval"):
        ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()))


def test_a_service_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.transport.ATTEMPTS", 1)

    async def run() -> None:
        async with Client(f"http://127.0.0.1:{unused_port()}") as client:
            await client.models()

    with pytest.raises(UserError, match="does not answer"):
        asyncio.run(run())


def test_half_a_character_from_a_server_can_be_written() -> None:
    async def handler(request: web.Request) -> web.Response:
        half = "half \ud83d, whole \U0001f600"
        prompt = (await request.json())["messages"][0]["content"]
        return chat_answer(half) if prompt == "?" else error(400, half)

    (answer,) = ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()))
    assert answer.text == "half \ufffd, whole \U0001f600"
    with pytest.raises(Refused) as refused:
        ask(handler, lambda c: c.generate("m", [{"role": "user", "content": "!"}], Sampling()))
    assert refused.value.reason.encode().decode().endswith("half \ufffd, whole \U0001f600")


def test_a_page_of_html_ends_the_run_only_where_nothing_was_answered_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.transport.ATTEMPTS", 1)
    calls = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(1)
        page = web.Response(text="<html>", content_type="text/html")
        return page if len(calls) != 2 else chat_answer("yes")

    with pytest.raises(UserError, match="not an OpenAI-compatible server"):
        ask(handler, lambda c: c.generate("m", MESSAGES, Sampling()))

    async def use(client: Client) -> Any:
        await client.generate("m", MESSAGES, Sampling())
        await client.generate("m", MESSAGES, Sampling())

    with pytest.raises(Refused, match="not JSON"):
        ask(handler, use)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.transport.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("evals.transport.SILENCE_SECONDS", 0.6)


@pytest.mark.usefixtures("impatient")
def test_a_model_that_hangs_is_given_up_and_the_others_are_measured() -> None:
    calls: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        model = (await request.json())["model"]
        calls.append(model)
        if model == "hanging":
            await asyncio.sleep(60)
        return chat_answer("yes")

    async def use(client: Client) -> Any:
        async def asked(model: str, concurrency: int) -> Any:
            return await each(range(100), lambda _: client.generate(model, MESSAGES, Sampling()), model, concurrency)

        began = time.monotonic()
        hanging, whole = await asyncio.gather(asked("hanging", 3), asked("well", 1))
        return hanging, whole, time.monotonic() - began

    hanging, whole, seconds = ask(handler, use)
    assert [answer.text for (answer,) in whole] == ["yes"] * 100
    assert all(isinstance(answer, Refused) for answer in hanging)
    assert hanging[-1].reason == "not asked any more after 1 s without any answer"
    assert calls.count("hanging") <= 9
    assert seconds < 20, "not 100 requests of six attempts each"


@pytest.mark.usefixtures("impatient")
def test_one_prompt_that_hangs_is_missing_alone_in_bounded_time() -> None:
    calls: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        calls.append((await request.json())["messages"][0]["content"])
        if calls[-1] == "hang":
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)  # it begins to answer, and goes on for ever
            await asyncio.sleep(60)
        await asyncio.sleep(0.05)
        return chat_answer("yes")

    async def use(client: Client) -> Any:
        async def one(text: str) -> Any:
            return await client.generate("m", [{"role": "user", "content": text}], Sampling())

        return await each(["hang", *map(str, range(60))], one, "", concurrency=4)

    first, *others = ask(handler, use)
    assert isinstance(first, Refused)
    assert first.reason == "no answer (TimeoutError)"
    assert not any(isinstance(answer, Refused) for answer in others)
    assert 2 <= calls.count("hang") <= 3
