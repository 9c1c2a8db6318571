"""Engines that answer otherwise than ours: without the token route, without counts, with too much from the cache.

The server here stands for vLLM elsewhere, whose version and options nobody can choose; ours is in
`routes/test_loglikelihood.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.endpoints import Endpoint
from service.errors import ApiError
from service.likelihoods import TOKENS, Likelihood, Pair, likelihoods

pytestmark = pytest.mark.unit
PAIR = Pair((1, 2, 3), (4, 5))
RIGHT = Likelihood((-0.4, -0.5), (False, True))


def values(ids: list[int], from_cache: int = 0) -> list[Any]:
    """The value of token i is -i / 10, the likeliest is 5; what was read from the cache is not written."""
    rows: list[Any] = [None]
    for place, token in enumerate(ids[1:]):
        row = {"logprob": -token / 10, "rank": 1 if token == 5 else 2}
        rows.append({"0": {"logprob": 9e9, "rank": 77}} if place < from_cache else {str(token): row})
    return rows


class Fake:
    """A server that answers token requests by `tokens` and completions in vLLM's form."""

    def __init__(self, tokens: Callable[[dict[str, Any]], tuple[int, Any]]) -> None:
        self.tokens = tokens
        self.paths: list[str] = []
        self.skipped: list[bool] = []

    async def generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.paths.append("tokens")
        self.skipped.append(body["sampling_params"]["skip_reading_prefix_cache"])
        status, answer = self.tokens(body)
        if isinstance(answer, bytes):
            return web.Response(body=answer, status=status)
        return web.json_response(answer, status=status)

    async def complete(self, request: web.Request) -> web.Response:
        self.paths.append("completions")
        ids = (await request.json())["prompt"]
        return web.json_response({"choices": [{"index": 0, "prompt_logprobs": values(ids)}]})

    def measure(self, pairs: list[Pair], plain: set[str] | None = None) -> list[Likelihood | ApiError]:
        async def main() -> list[Likelihood | ApiError]:
            app = web.Application()
            app.router.add_post(TOKENS, self.generate)
            app.router.add_post("/v1/completions", self.complete)
            async with TestServer(app) as server, aiohttp.ClientSession() as http:
                url = f"http://127.0.0.1:{server.port}"
                endpoint = Endpoint("m", "policy", url, "sft", 64, {}, 0.0, (), (), False, "", Path("m"))
                seen: set[str] = set()
                results = await likelihoods(http, endpoint, pairs, "salt", seen)
                if plain is not None:
                    plain.update({"plain"} if url in seen else ())
                return results

        return asyncio.run(main())


def answer(body: dict[str, Any], cached: int | None) -> tuple[int, Any]:
    skips = body["sampling_params"]["skip_reading_prefix_cache"]
    read = 0 if skips else cached or 0
    details = None if cached is None else {"cached_tokens": read}
    return 200, {"usage": {"prompt_tokens_details": details}, "prompt_logprobs": values(body["token_ids"], read)}


def test_what_stands_before_the_continuation_may_come_from_the_cache() -> None:
    fake = Fake(lambda body: answer(body, 2))
    assert fake.measure([PAIR]) == [RIGHT]
    assert fake.skipped == [False]


@pytest.mark.parametrize("cached", [3, 4, None])
def test_too_much_from_the_cache_or_an_unknown_part_is_requested_again(cached: int | None) -> None:
    """3 cached tokens hold the context's last position, which predicts the first token of the continuation."""
    fake = Fake(lambda body: answer(body, cached))
    assert fake.measure([PAIR]) == [RIGHT]
    assert fake.skipped == [False, True]


def test_a_count_that_is_too_small_is_seen_by_ids() -> None:
    def lie(body: dict[str, Any]) -> tuple[int, Any]:
        status, content = answer(body, 4)
        content["usage"]["prompt_tokens_details"]["cached_tokens"] = 0
        return status, content

    fake = Fake(lie)
    assert fake.measure([PAIR]) == [RIGHT]
    assert fake.skipped == [False, True]


@pytest.mark.parametrize("status", [400, 500])
def test_memory_that_json_cannot_hold_is_not_a_refusal(status: int) -> None:
    """vLLM answers so where what was never written is not a number."""

    def fail(body: dict[str, Any]) -> tuple[int, Any]:
        skips = body["sampling_params"]["skip_reading_prefix_cache"]
        return answer(body, 0) if skips else (status, {"error": {"message": "Out of range float values"}})

    fake = Fake(fail)
    assert fake.measure([PAIR]) == [RIGHT]
    assert fake.skipped == [False, True]


def test_prompts_that_share_too_much_never_read_the_cache() -> None:
    fake = Fake(lambda body: answer(body, 0))
    long = tuple(range(100, 132))
    fake.measure([Pair(long, (4, 5)), Pair(long, (5,)), PAIR])
    assert sorted(fake.skipped) == [False, True, True]


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_an_engine_without_the_route_answers_by_completions(status: int) -> None:
    fake, plain = Fake(lambda body: (status, {"error": {"message": "no"}})), set[str]()
    assert fake.measure([PAIR] * 100, plain) == [RIGHT] * 100
    assert plain == {"plain"}
    assert fake.paths.count("completions") == 100
    assert fake.paths.count("tokens") <= 64  # those on their way when the first was refused


def test_a_refusal_is_of_one_pair_and_a_failure_of_all() -> None:
    def refuse(body: dict[str, Any]) -> tuple[int, Any]:
        if body["token_ids"] == [1, 9]:
            return 400, {"error": {"message": "the maximum model length is 1"}}
        return answer(body, 0)

    bad, good = Fake(refuse).measure([Pair((1,), (9,)), PAIR])
    assert isinstance(bad, ApiError)
    assert bad.code == "context_length_exceeded"
    assert good == RIGHT
    with pytest.raises(ApiError) as caught:
        Fake(lambda body: (500, {})).measure([PAIR])
    assert caught.value.status == 502


ROW = {"logprob": -0.5, "rank": 1}


@pytest.mark.parametrize(
    "content",
    [
        None, {"a": 1}, "text", 7, [], [1] * 5, [None] * 5, [[]] * 5, [{}] * 5, [{"4": ROW, "5": None}] * 5,
        [{"4": ROW, "5": 1}] * 5, [{"4": ROW, "5": {}}] * 5, [{"4": ROW, "5": {"logprob": "x", "rank": 1}}] * 5,
        [{"4": ROW, "5": {"logprob": -1, "rank": None}}] * 5,
    ],
)  # fmt: skip
def test_an_engine_without_values_is_an_error(content: Any) -> None:
    with pytest.raises(ApiError, match="gives no log-probabilities") as caught:
        Fake(lambda body: (200, {"prompt_logprobs": content})).measure([PAIR])
    assert caught.value.status == 502


@pytest.mark.parametrize("content", [b"<html>", b"", b"[]", b"5", b'{"prompt_logprobs": [NaN]}', b"\xff", b"[" * 9999])
def test_an_engine_that_answers_something_else_is_an_error(content: bytes) -> None:
    with pytest.raises(ApiError, match="cannot be read") as caught:
        Fake(lambda body: (200, content)).measure([PAIR])
    assert (caught.value.status, caught.value.code) == (502, "engine_error")
