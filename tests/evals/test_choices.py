"""Log-probabilities of answers after a text: only the answer's own tokens count."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from evals.choices import answer_logprobs
from evals.client import Client
from evals.transport import Refused

pytestmark = pytest.mark.unit


def logprobs(answers: list[str], swallowed: str = "") -> list[float]:
    """Of a server whose tokens are words, each of log-probability minus its length; it swallows one word."""

    async def handler(request: web.Request) -> web.Response:
        choices = []
        for index, text in enumerate((await request.json())["prompt"]):
            words = [word for word in text.split() if word != swallowed]
            values = [None, *(-float(len(word)) for word in words[1:])]
            tops = [None if value is None else {"x": value} for value in values]
            choices.append({"index": index, "logprobs": {"token_logprobs": values, "top_logprobs": tops}})
        return web.json_response({"choices": choices})

    async def run() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        async with TestServer(app) as server, Client(str(server.make_url("")).rstrip("/")) as client:
            return await answer_logprobs(client, "m", "Q: why? A:", answers)

    scores: list[float] = asyncio.run(run())
    return scores


def test_the_text_itself_does_not_count() -> None:
    assert logprobs(["yes", "oh no"]) == [-3.0, -4.0]


def test_an_answer_without_a_token_is_no_certainty() -> None:
    """Its sum would be 0, a probability of one."""
    with pytest.raises(Refused, match="without a token of its own"):
        logprobs(["yes", "oh"], swallowed="oh")
