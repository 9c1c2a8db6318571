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


def logprobs(answers: list[str], swallowed: str = "", ids: bool = False, paths: list[str] | None = None) -> list[float]:
    """Of a server whose tokens are words, each of log-probability minus its length; it swallows one word.

    Args:
        ids: it also gives token ids, which are the lengths, and scores pairs of them.
        paths: gets the path of every request.
    """

    async def handler(request: web.Request) -> web.Response:
        body = await request.json()
        (paths if paths is not None else []).append(request.path)
        if request.path == "/tokenize" and ids:
            return web.json_response(
                {"tokens": [[len(w) for w in t.split() if w != swallowed] for t in body["prompt"]]}
            )
        if request.path == "/v1/loglikelihood" and ids:
            rows = [[-n for n in pair["continuation"]] for pair in body["pairs"]]
            assert all(pair["context"] == [2, 4, 2] for pair in body["pairs"])
            data = [{"index": i, "logprobs": row, "greedy": [True] * len(row)} for i, row in enumerate(rows)]
            return web.json_response({"data": data})
        if request.path != "/v1/completions":
            return web.json_response({"error": {"message": "no such route"}}, status=404)
        choices = []
        for index, text in enumerate(body["prompt"]):
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


@pytest.mark.parametrize("ids", [True, False])
def test_the_text_itself_does_not_count(ids: bool) -> None:
    assert logprobs(["yes", "oh no"], ids=ids) == [-3.0, -4.0]


def test_a_text_is_computed_once_for_all_its_answers() -> None:
    """An echo would compute it for every answer, and once more to count its tokens."""
    paths: list[str] = []
    logprobs(["yes", "oh no", "a", "b", "c"], ids=True, paths=paths)
    assert paths == ["/tokenize", "/v1/loglikelihood"]


@pytest.mark.parametrize("ids", [True, False])
def test_an_answer_without_a_token_is_no_certainty(ids: bool) -> None:
    """Its sum would be 0, a probability of one."""
    with pytest.raises(Refused, match="without a token of its own"):
        logprobs(["yes", "oh"], swallowed="oh", ids=ids)
