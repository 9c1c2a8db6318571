from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.endpoints import Endpoint, Endpoints, View
from service.errors import ApiError
from service.preferences.sampling import Sampled, UnusablePrompt, allocate, current_policies, policies, sample
from service.store.database import Store
from training.artifacts.comparisons import Response

pytestmark = pytest.mark.unit


def endpoint(checkpoint: str) -> Endpoint:
    url, created = f"http://{checkpoint}", "2026-01-01T00:00:00"
    return Endpoint(checkpoint, "policy", url, "sft", 256, {}, 0.0, (0,), (), False, created, Path(checkpoint))


def endpoints(ready: list[str], aliases: dict[str, str], starting: tuple[str, ...] = ()) -> Endpoints:
    found = Endpoints(Store("sqlite://"))
    states = tuple((name, "starting") for name in starting)
    found.view = View({name: (endpoint(name),) for name in ready}, aliases, aliases, states)
    return found


@pytest.mark.parametrize(
    "checkpoints, k, counts, chance",
    [(2, 2, [1, 1], 1.0), (1, 4, [4], 1.0), (2, 4, [2, 2], 1.0), (3, 2, [0, 1, 1], 1 / 3), (2, 5, [2, 3], 1 / 2)],
)
def test_responses_are_shared_evenly_and_the_chance_is_known(
    checkpoints: int, k: int, counts: list[int], chance: float
) -> None:
    found, propensity = allocate(checkpoints, k, random.Random(0))
    assert sorted(found) == counts
    assert propensity == pytest.approx(chance)


def test_the_stated_chance_is_the_frequency() -> None:
    rng = random.Random(1)
    seen = Counter(tuple(allocate(3, 4, rng)[0]) for _ in range(3000))
    assert set(seen) == {(2, 1, 1), (1, 2, 1), (1, 1, 2)}
    assert all(abs(count / 3000 - 1 / 3) < 0.05 for count in seen.values())


def test_policies_are_each_checkpoint_once_and_unset_aliases_are_left_out() -> None:
    names = ["policy/production", "policy/candidate"]
    both = endpoints(["a", "b"], {"policy/production": "a", "policy/candidate": "b"})
    assert [e.checkpoint for e in policies(both, names)] == ["a", "b"]
    same = endpoints(["a"], {"policy/production": "a", "policy/candidate": "a"})
    assert [e.checkpoint for e in policies(same, names)] == ["a"]
    alone = endpoints(["a"], {"policy/production": "a"})
    assert [e.checkpoint for e in policies(alone, names)] == ["a"]
    assert [e.checkpoint for e in policies(alone, ["a"])] == ["a"]


def test_a_policy_that_is_set_but_down_is_an_error_and_not_an_a_a_comparison() -> None:
    down = endpoints(["a"], {"policy/production": "a", "policy/candidate": "b"}, starting=("b",))
    with pytest.raises(ApiError) as refused:
        policies(down, ["policy/production", "policy/candidate"])
    assert (refused.value.status, refused.value.code) == (503, "model_not_ready")
    with pytest.raises(ApiError) as refused:
        policies(endpoints([], {}), ["policy/production"])
    assert (refused.value.status, refused.value.code) == (503, "no_policy")
    with pytest.raises(ApiError) as refused:
        policies(endpoints(["a"], {}), ["nosuch"])
    assert refused.value.status == 404


def engine(texts: list[str], status: int = 200) -> tuple[web.Application, list[dict[str, Any]]]:
    """An engine that answers with these texts in turn, or refuses every prompt with `status`; and what it was asked."""
    asked: list[dict[str, Any]] = []
    remaining = iter(texts)

    async def handler(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append(body)
        if status != 200:
            return web.json_response({"error": {"message": "System role not supported"}}, status=status)
        choices = [
            {"index": i, "message": {"content": next(remaining)}, "finish_reason": "stop"} for i in range(body["n"])
        ]
        return web.json_response({"choices": choices})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    return app, asked


def sampled(apps: list[web.Application], k: int, text: str = "q") -> list[Response]:
    return whole(apps, k, text).responses


def whole(apps: list[web.Application], k: int, text: str = "q") -> Sampled:
    async def run() -> Sampled:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(TestServer(app)) for app in apps]
            http = await stack.enter_async_context(aiohttp.ClientSession())
            chosen = [replace(endpoint(str(i)), url=str(s.make_url("")).rstrip("/")) for i, s in enumerate(servers)]
            messages = [{"role": "user", "content": text}]
            return await sample(http, endpoints([], {}), chosen, messages, k, 1.0, 64)

    return asyncio.run(run())


def test_each_response_has_a_seed_of_its_own() -> None:
    responses = [r for _ in range(3) for r in sampled([engine(["a", "b"])[0], engine(["c", "d"])[0]], 4)]
    assert len({response.sampling["seed"] for response in responses}) == 12


def test_a_repeated_response_is_drawn_once_more_under_another_seed() -> None:
    app, asked = engine(["a", "a", "b"])
    assert [r.text for r in sampled([app], 2)] == ["a", "b"]
    assert [body["n"] for body in asked] == [2, 1]
    assert asked[0]["seed"] != asked[1]["seed"]


def test_a_policy_that_cannot_take_the_prompt_leaves_it_to_the_others() -> None:
    refusing, _ = engine([], status=400)
    able, _ = engine(["of a round that counts for nothing", "a", "b"])
    outcome = whole([refusing, able], 2)
    assert [(r.text, r.checkpoint) for r in outcome.responses] == [("a", "1"), ("b", "1")]
    assert {name: refusal.message for name, refusal in outcome.refusals.items()} == {
        "0": "0 cannot take the prompt: System role not supported"
    }


def test_a_prompt_that_every_policy_refuses_has_a_reason_of_each() -> None:
    outcome = whole([engine([], 400)[0], engine([], 422)[0]], 2)
    assert outcome.responses == []
    assert {name: "System role not supported" in refusal.message for name, refusal in outcome.refusals.items()} == {
        "0": True,
        "1": True,
    }


def test_half_a_character_is_unusable_and_reaches_no_engine() -> None:
    app, asked = engine(["a", "b"])
    (refusal,) = whole([app], 2, "hello \ud83d").refusals.values()
    assert "half a character" in refusal.message
    assert not asked


@pytest.mark.parametrize(
    "status, told",
    [(401, 502), (403, 502), (404, 502), (405, 502), (408, 504), (429, 429), (500, 502), (502, 502), (503, 503)],
)
def test_what_an_engine_says_of_itself_is_no_fault_of_the_prompt(status: int, told: int) -> None:
    with pytest.raises(ApiError) as failed:
        sampled([engine([], status)[0]], 2)
    assert failed.value.status == told
    assert not isinstance(failed.value, UnusablePrompt)


def test_when_one_engine_fails_the_others_stop_writing() -> None:
    stopped = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return web.json_response({})

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", slow)
        async with AsyncExitStack() as stack:
            # Without handler_cancellation aiohttp's server lets a handler run on when its client leaves.
            server = await stack.enter_async_context(TestServer(app, handler_cancellation=True))
            failing = await stack.enter_async_context(TestServer(engine([], 500)[0]))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            two = [
                replace(endpoint(n), url=str(s.make_url("")).rstrip("/")) for n, s in (("a", server), ("b", failing))
            ]
            with pytest.raises(ApiError):
                await sample(http, endpoints([], {}), two, [{"role": "user", "content": "q"}], 2, 1.0, 64)
            await asyncio.wait_for(stopped.wait(), 5)

    asyncio.run(run())


def test_the_policies_that_are_compared_are_known_without_engines() -> None:
    names = ["policy/production", "policy/candidate", "sft-1"]
    down = endpoints([], {"policy/production": "a"})
    assert current_policies(down, names) == {"a", "sft-1"}


def choice(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"content": "a"}, "finish_reason": "stop", **fields}


@pytest.mark.parametrize(
    "content",
    [
        b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [1]}', b'{"choices": [{"index": 7}]}',
        choice(message=None), choice(message="a"), choice(message={"content": 5}), choice(message={"content": ["a"]}),
        choice(finish_reason="x" * 21), choice(finish_reason=5), choice(finish_reason={"a": 1}), choice(index="0"),
    ],
)  # fmt: skip
def test_an_engine_that_answers_something_else_is_told(content: Any) -> None:
    async def handler(_: web.Request) -> web.Response:
        body = content if isinstance(content, bytes) else json.dumps({"choices": [content]}).encode()
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    with pytest.raises(ApiError) as failed:
        sampled([app], 1)
    assert (failed.value.status, failed.value.code) == (502, "engine_error")
