"""The gateway over stub engines that do what real ones do rarely: die in the middle, answer garbage, refuse, hang."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import aiohttp
import httpx
import openai
import pytest
from aiohttp import web
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from sqlalchemy import select

from service.routes import health
from service.store.database import Store
from service.store.models import Alias, Engine
from tests.service.conftest import engine_row
from tests.support import stub_engine, waiting
from tests.support.stub_engine import StubEngine, chat_answer, send_pieces, stream_of

wait_until = partial(waiting.wait_until, seconds=5)

pytestmark = pytest.mark.unit
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
BODY: dict[str, Any] = {"model": "sft-1", "messages": HELLO}
Build = Callable[..., TestClient]


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with stub_engine.stub_engine() as running:
        yield running


@pytest.fixture
def url(app_client: Build, add_engine: Callable[..., None], engine: StubEngine) -> Iterator[str]:
    """An open gateway behind uvicorn; `sft-1` and `reward-1` are both the stub."""
    add_engine("sft-1", url=engine.url)
    add_engine("reward-1", url=engine.url, kind="reward")
    with stub_engine.served(app_client(open=True).app) as address:  # type: ignore[arg-type]
        yield address


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def tokens() -> float:
    return metric("alignloop_tokens_total", model="sft-1", kind="completion")


def requests(status: int) -> float:
    return metric("alignloop_requests_total", route="/v1/chat/completions", model="sft-1", status=str(status))


def test_a_streams_usage_is_counted_and_shown_only_to_who_asked(client: openai.OpenAI, engine: StubEngine) -> None:
    for options, extra, shown in (
        (None, {}, 0),
        ({"include_usage": True}, {}, 1),
        ({"include_usage": True, "continuous_usage_stats": True}, {}, 3),
        ({"include_usage": False, "include_obfuscation": False}, {}, 0),
    ):
        before, answered = tokens(), requests(200)
        given: Any = {**BODY, "stream": True, **({"stream_options": options} if options else {}), **extra}
        chunks = list(client.chat.completions.create(**given))
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "two words"
        assert sum(c.usage is not None for c in chunks) == shown
        wait_until(lambda answered=answered: requests(200) == answered + 1)  # type: ignore[misc]
        assert tokens() == before + 2
        assert engine.seen[-1][1]["stream_options"]["include_usage"] is True


def test_a_client_that_hangs_up_after_the_last_event_has_the_whole_answer(url: str, engine: StubEngine) -> None:
    async def linger(request: web.Request, body: Any) -> web.StreamResponse:
        return await send_pieces(request, [*stream_of(body, ["two", " words"]), b": bye\n\n"], pause=0.2)

    engine.answer = linger
    before, answered, gone = tokens(), requests(200), requests(499)
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**BODY, "stream": True}, trust_env=False) as reply:
        next(line for line in reply.iter_lines() if line == "data: [DONE]")
    wait_until(lambda: requests(200) + requests(499) == answered + gone + 1)
    assert requests(499) == gone
    assert tokens() == before + 2


@pytest.mark.parametrize("cut", [0, 1, 40, 200])
def test_an_engine_that_dies_in_the_middle_is_an_error_that_the_client_understands(
    client: openai.OpenAI, engine: StubEngine, cut: int
) -> None:
    async def die(request: web.Request, body: Any) -> web.StreamResponse:
        pieces = stream_of(body, ["two", " words"])
        return await send_pieces(request, [pieces[0], pieces[1][:cut]], die=True)

    engine.answer = die
    failed = requests(503)
    stream = client.chat.completions.create(model="sft-1", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="the engine of sft-1 is down"):
        list(stream)
    wait_until(lambda: requests(503) == failed + 1)


def test_a_client_that_leaves_cancels_the_engines_work(http: httpx.Client, engine: StubEngine) -> None:
    async def slow(request: web.Request, body: Any) -> web.StreamResponse:
        if body.get("stream"):
            return await send_pieces(request, [*stream_of(body, ["a"] * 1000)], pause=0.05)
        await asyncio.sleep(60)
        return web.json_response(chat_answer(body))

    engine.answer = slow
    gone = requests(499)
    with http.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as reply:
        next(reply.iter_bytes())
    wait_until(lambda: engine.cancelled == 1 and engine.open == 0)
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=BODY, timeout=0.3)
    wait_until(lambda: engine.cancelled == 2 and engine.open == 0)
    wait_until(lambda: requests(499) == gone + 2)
    assert metric("alignloop_running_requests", model="sft-1") == 0


async def html(_: web.Request, __: Any) -> web.StreamResponse:
    return web.Response(text="<html>a proxy's page</html>", content_type="text/html")


async def a_list(_: web.Request, __: Any) -> web.StreamResponse:
    return web.json_response([1])


async def nothing(_: web.Request, __: Any) -> web.StreamResponse:
    return web.Response(body=b"")


async def no_choices(_: web.Request, __: Any) -> web.StreamResponse:
    return web.json_response({"id": "x", "data": [{"index": 0, "probs": [1.0]}]})


async def broken_bytes(_: web.Request, __: Any) -> web.StreamResponse:
    return web.Response(body=b'{"choices": [], "usage": {"prompt_tokens": "\xff"}}', content_type="application/json")


async def wrong_kinds(_: web.Request, __: Any) -> web.StreamResponse:
    return web.json_response({"choices": {"a": 1}, "data": "x"})


@pytest.mark.parametrize("answer", [html, a_list, nothing, no_choices, broken_bytes, wrong_kinds])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_garbage_is_an_engine_error(http: httpx.Client, engine: StubEngine, path: str, answer: Any) -> None:
    engine.answer = answer
    reply = http.post(path, json={**({"input": "x"} if "resp" in path else {"prompt": "x"}), "model": "sft-1"}
                      if "chat" not in path else BODY)  # fmt: skip
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "engine_error")


def test_a_compressing_proxy_before_an_engine_is_asked_not_to(http: httpx.Client, engine: StubEngine) -> None:
    asked = []

    async def compress(request: web.Request, body: Any) -> web.StreamResponse:
        asked.append(request.headers["accept-encoding"])
        return web.json_response(chat_answer(body))

    engine.answer = compress
    assert http.post("/v1/chat/completions", json=BODY).json()["choices"][0]["message"]["content"] == "two words"
    assert asked == ["identity"]


@pytest.mark.parametrize(
    "status, expected, code, retry",
    [
        (429, 429, "rate_limited", True), (503, 503, "overloaded", True), (401, 502, "engine_error", False),
        (404, 502, "engine_error", False), (422, 400, "invalid_value", False), (500, 502, "engine_error", False),
    ],
)  # fmt: skip
def test_an_engines_refusals_by_class(
    http: httpx.Client, engine: StubEngine, status: int, expected: int, code: str, retry: bool
) -> None:
    async def refuse(_: web.Request, __: Any) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no", "type": "x", "code": status}}, status=status)

    engine.answer = refuse
    for stream in (False, True):
        reply = http.post("/v1/chat/completions", json={**BODY, "stream": stream})
        assert (reply.status_code, reply.json()["error"]["code"]) == (expected, code)
        assert ("retry-after" in reply.headers) == retry


def test_a_replica_that_is_down_or_full_is_passed_over(
    app_client: Build, local_store: Any, add_engine: Callable[..., None]
) -> None:
    async def full(_: web.Request, __: Any) -> web.StreamResponse:
        return web.json_response({"error": {"message": "queue full", "type": "x", "code": 503}}, status=503)

    with stub_engine.stub_engine() as good, stub_engine.stub_engine(full) as busy:
        with local_store.session() as session:
            for number, address in enumerate(("http://127.0.0.1:9", busy.url, good.url)):
                row = engine_row("sft-1", address)
                row.id = f"row-{number}"
                session.add(row)
        client = app_client(open=True)
        for stream in (False, True):
            reply = client.post("/v1/chat/completions", json={**BODY, "stream": stream})
            assert reply.status_code == 200, reply.text
        assert len(good.seen) == 2
        assert client.app.state.endpoints.running.total() == 0  # type: ignore[attr-defined]


def test_a_replica_that_answered_is_not_passed_over(app_client: Build, local_store: Any) -> None:
    async def fail(_: web.Request, __: Any) -> web.StreamResponse:
        return web.json_response({"error": {"message": "boom", "type": "x", "code": 500}}, status=500)

    with stub_engine.stub_engine(fail) as one, stub_engine.stub_engine(fail) as other:
        with local_store.session() as session:
            for number, address in enumerate((one.url, other.url)):
                row = engine_row("sft-1", address)
                row.id = f"row-{number}"
                session.add(row)
        assert app_client(open=True).post("/v1/chat/completions", json=BODY).status_code == 502
        assert len(one.seen) + len(other.seen) == 1


def test_keys_do_not_share_what_engines_keep_of_prompts(
    app_client: Build, add_engine: Callable[..., None], make_key: Callable[..., dict[str, str]], engine: StubEngine
) -> None:
    add_engine("sft-1", url=engine.url)
    client = app_client()
    keys = [make_key("generate"), make_key("generate")]
    for key in (*keys, keys[0]):
        assert client.post("/v1/chat/completions", json=BODY, headers=key).status_code == 200
    first, second, again = [body["cache_salt"] for _, body in engine.seen]
    assert first == again != second
    forged = client.post("/v1/chat/completions", json={**BODY, "cache_salt": first}, headers=keys[1])
    assert (forged.status_code, forged.json()["error"]["param"]) == (400, "cache_salt")


def test_readiness_asks_the_engines_once_for_all_who_wait(url: str, engine: StubEngine) -> None:
    async def slow(request: web.Request, body: Any) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        if request.path == "/classify":
            return web.json_response({"data": [{"index": 0, "probs": [0.5]}]})
        return web.json_response(chat_answer(body))

    engine.answer = slow
    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.get(f"{url}/health/ready", timeout=20, trust_env=False).status_code)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask()  # within the seconds for which the result is kept, counted from its end
    assert answers == [200] * 21
    assert len(engine.seen) == 2, "one question per engine"
    for path in ("/health/live", "/health/ready"):
        assert httpx.head(url + path, trust_env=False).status_code == 200


def test_an_engine_whose_token_is_late_is_busy_unless_its_server_is_silent_too(
    http: httpx.Client, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(_: web.Request, __: Any) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    monkeypatch.setattr(health, "PROBE", aiohttp.ClientTimeout(total=0.5))
    monkeypatch.setattr(health, "READINESS_SECONDS", 0.0)
    engine.answer = late
    assert http.get("/health/ready").status_code == 200
    engine.hung = True
    reply = http.get("/health/ready")
    assert (reply.status_code, set(reply.json()["problems"])) == (503, {"sft-1", "reward-1"})


def test_what_the_table_says_of_an_engine_is_in_readiness_at_once(
    http: httpx.Client, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when the engines are asked anew."""
    monkeypatch.setattr(health, "READINESS_SECONDS", 3600.0)
    with local_store.session() as session:
        session.add(Alias(name="policy/production", checkpoint="sft-1", served="sft-1"))
    wait_until(lambda: http.get("/v1/models/policy/production").status_code == 200)
    assert http.get("/health/ready").status_code == 200
    with local_store.session() as session:
        row = session.scalars(select(Engine).where(Engine.checkpoint == "sft-1")).one()
        row.state, row.detail = "failed", "it hangs"
    wait_until(lambda: http.get("/health/ready").status_code == 503)
    assert "it hangs" in http.get("/health/ready").json()["problems"]["policy/production"]


@pytest.mark.parametrize("answer", [html, a_list, nothing, no_choices])
def test_an_engine_that_answers_garbage_is_not_ready(http: httpx.Client, engine: StubEngine, answer: Any) -> None:
    engine.answer = answer
    reply = http.get("/health/ready")
    assert reply.status_code == 503
    assert "sft-1" in reply.json()["problems"]


def test_a_long_answer_passes_whole_and_is_counted(http: httpx.Client, engine: StubEngine) -> None:
    """Four megabytes of ids, and an answer of seventeen megabytes of which the usage is read."""
    padding = [{"token": "x" * 50, "logprob": -1.25}] * 230_000
    content = json.dumps(chat_answer({"model": "sft-1"}) | {"prompt_logprobs": padding}).encode()

    async def large(_: web.Request, __: Any) -> web.StreamResponse:
        return web.Response(body=content, content_type="application/json")

    engine.answer = large
    begin = tokens()
    prompt = [[index % 50_000 for index in range(560_000)]]
    reply = http.post("/v1/completions", json={"model": "sft-1", "prompt": prompt})
    assert reply.content == content
    assert engine.seen[-1][1]["prompt"] == prompt
    assert tokens() == begin + 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_what_people_wrote_follows_no_redirect(http: httpx.Client, engine: StubEngine, status: int) -> None:
    with stub_engine.stub_engine() as elsewhere:

        async def redirect(request: web.Request, _: Any) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": f"{elsewhere.url}{request.path}"})

        engine.answer = redirect
        for stream in (False, True):
            reply = http.post("/v1/chat/completions", json={**BODY, "stream": stream})
            assert (reply.status_code, reply.json()["error"]["code"]) == (502, "engine_error")
        assert http.get("/health/ready").status_code == 503
        assert elsewhere.seen == []


@pytest.mark.parametrize("usage", [{"prompt_tokens": -3, "completion_tokens": -2}, {"prompt_tokens": 2**63}, {}, None])
def test_a_count_that_cannot_be_fails_no_answer(http: httpx.Client, engine: StubEngine, usage: Any) -> None:
    async def odd(request: web.Request, body: Any) -> web.StreamResponse:
        if body.get("stream"):
            chunks = stream_of(body, ["a"])
            last = stub_engine.chunk("sft-1", "", choices=[], usage=usage)
            return await send_pieces(request, [chunks[0], last, chunks[-1]])
        return web.json_response(chat_answer(body) | {"usage": usage})

    engine.answer = odd
    before = tokens()
    assert http.post("/v1/chat/completions", json=BODY).status_code == 200
    assert http.post("/v1/chat/completions", json={**BODY, "stream": True}).text.endswith("data: [DONE]\n\n")
    assert tokens() == before


def test_a_long_name_is_not_sent_back_whole(http: httpx.Client) -> None:
    for path, body in (
        ("/v1/chat/completions", {"model": "m" * 100_000, "messages": HELLO}),
        ("/v1/chat/completions", {**BODY, "f" * 100_000: 1}),
        ("/v1/chat/completions", {"model": "sft-1", "messages": [{"role": "r" * 100_000, "content": "x"}]}),
        ("/score", {"model": "m" * 100_000, "messages": HELLO, "responses": ["x"]}),
    ):
        reply = http.post(path, json=body)
        assert 400 <= reply.status_code < 500
        assert len(reply.content) < 10_000
