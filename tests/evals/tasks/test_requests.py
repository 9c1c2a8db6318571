"""What the adapter sends: no context by itself, one request for all one-token answers, and what failures cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
BAD = 66


class Server:
    """A vLLM server whose log-probabilities are minus the token's id."""

    def __init__(
        self, *, next_tokens: bool = True, logprobs: bool = True, refused: int = 413, takes_pairs: bool = False
    ) -> None:
        self.next_tokens, self.logprobs, self.refused, self.takes_pairs = next_tokens, logprobs, refused, takes_pairs
        self.bodies: list[dict[str, Any]] = []
        self.pair_bodies: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.path == "/v1/loglikelihood":
            return self.pairs(body)
        self.bodies.append(body)
        if "logprob_token_ids" in body and not self.next_tokens:
            return web.json_response({"error": {"message": "unknown field `logprob_token_ids`"}}, status=400)
        if any(BAD in ids for ids in body["prompt"]):
            return web.json_response({"error": {"message": "too large"}}, status=self.refused)
        return web.json_response({"choices": [self.choice(i, ids, body) for i, ids in enumerate(body["prompt"])]})

    def pairs(self, body: dict[str, Any]) -> web.Response:
        """This service's own route, which a vLLM server lacks. The rows come in another order than they went."""
        self.pair_bodies.append(body)
        if not self.takes_pairs:
            return web.json_response({"detail": "Not Found"}, status=404)
        rows: list[dict[str, Any]] = []
        for index, pair in enumerate(body["pairs"]):
            ids = pair["continuation"]
            if BAD in pair["context"] + ids:
                code = "context_length_exceeded"
                rows.append({"index": index, "error": {"message": "too long", "code": code}})
            else:
                rows.append({"index": index, "logprobs": [-float(i) for i in ids], "greedy": [i % 2 == 0 for i in ids]})
        return web.json_response({"data": rows[::-1]})

    def choice(self, index: int, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        if "logprob_token_ids" in body:
            asked_ids = body["logprob_token_ids"]
            top = {f"token_id:{token}": -float(token) for token in [min(asked_ids), *asked_ids]}
            return {"index": index, "logprobs": {"tokens": [f"token_id:{min(asked_ids)}"], "top_logprobs": [top]}}
        rows = [None, *({str(token): {"logprob": -float(token), "rank": 1 + token % 2}} for token in ids[1:])]
        return {"index": index, "text": "", "prompt_logprobs": rows if self.logprobs else None}


class Letters:
    """A tokenizer with an id per letter."""

    prefix, prefix_text = 0, ""

    def encode(self, texts: Any, special: bool) -> list[list[int]]:
        return [[ord(letter) for letter in text] for text in texts]


def use(server: Server, work: Callable[[Any], Any]) -> Any:
    from evals.client import Client
    from evals.lm import ServedModel

    async def main() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.answer)
        async with TestServer(app) as running, Client(str(running.make_url("")).rstrip("/")) as client:
            loop = asyncio.get_running_loop()
            model = ServedModel(client, "m", loop, Letters(), context=50)
            return await asyncio.to_thread(work, model)

    return asyncio.run(main())


def instances(pairs: list[tuple[str, str]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance("loglikelihood", {}, pair, 0, ("task", number, 1)) for number, pair in enumerate(pairs)]


def test_no_context_is_scored_by_itself_and_equal_pairs_once() -> None:
    server = Server()
    pairs = [("cc", "ab"), ("cc", "bb"), ("cc", "ab"), ("dd", "bd")]
    answers = use(server, lambda model: model.loglikelihood(instances(pairs)))
    assert [value for value, _ in answers] == [-(97 + 98), -(98 + 98), -(97 + 98), -(98 + 100)]
    assert [greedy for _, greedy in answers] == [False, True, False, True]  # rank 1 of even ids
    whole = [ids for body in server.bodies[2:] for ids in body["prompt"]]  # the first two ask what the server can do
    assert sorted(map(len, whole)) == [4, 4, 4]


def test_all_one_token_answers_of_a_context_take_one_prompt() -> None:
    server = Server()
    pairs = [(context, letter) for context in ("one", "two") for letter in "ABCD"]
    answers = use(server, lambda model: model.loglikelihood(instances(pairs)))
    assert answers == [(-float(ord(letter)), letter == "A") for _, letter in pairs]
    (body,) = server.bodies[2:]
    assert body["prompt"] == [[ord(letter) for letter in text] for text in ("one", "two")]
    assert body["logprob_token_ids"] == [65, 66, 67, 68]
    assert body["max_tokens"] == 1


def test_a_server_without_asked_ids_scores_the_whole() -> None:
    server = Server(next_tokens=False)
    answers = use(server, lambda model: model.loglikelihood(instances([("one", "X"), ("one", "Y")])))
    assert [value for value, _ in answers] == [-88.0, -89.0]
    assert len(server.bodies[-1]["prompt"]) == 2


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_bad_request_does_not_lose_its_batch(status: int) -> None:
    server = Server(refused=status)
    pairs = [("ab", f"{chr(BAD)}d" if n == 4 else f"a{chr(97 + n)}") for n in range(12)]

    def work(model: Any) -> Any:
        return model.loglikelihood(instances(pairs)), model.failures

    answers, failures = use(server, work)
    assert list(failures) == [("task", 4)]
    assert [value for n, (value, _) in enumerate(answers) if n != 4] == [-(97 + 97 + n) for n in range(12) if n != 4]


def test_an_engine_without_log_probabilities_ends_the_run() -> None:
    server = Server(logprobs=False)
    with pytest.raises(UserError, match="the engine gives no log-probabilities of m") as error:
        use(server, lambda model: model.loglikelihood(instances([("ab", "cd")])))
    assert "\n" not in str(error.value)
    assert len(server.bodies) == 1


def test_what_cannot_be_scored_is_missing() -> None:
    def work(model: Any) -> Any:
        return model.loglikelihood(instances([("ab", ""), ("a" * 48, "b"), ("a" * 49, "b")])), model.failures

    (nothing, fits, too_long), failures = use(Server(), work)
    assert failures == {
        ("task", 0): "the continuation adds no token",
        ("task", 2): "longer than the model's context",
    }
    assert fits[0] == -98
    assert nothing[0] != nothing[0]
    assert too_long[0] != too_long[0]


@pytest.mark.parametrize("takes_pairs", [True, False])
def test_the_services_own_route_gives_what_completions_give(takes_pairs: bool) -> None:
    server = Server(takes_pairs=takes_pairs)
    pairs = [(f"c{number}", end) for number in range(40) for end in ("ab", "bb", "cdef", "bd")]
    answers = use(server, lambda model: model.loglikelihood(instances(pairs)))
    assert [value for value, _ in answers] == [-sum(map(ord, end)) for _, end in pairs]
    assert [greedy for _, greedy in answers] == [end in ("bb", "bd") for _, end in pairs]
    whole = [body for body in server.bodies if "prompt_logprobs" in body]
    if takes_pairs:  # one question about the route, then 64, 64 and 32 pairs
        assert [len(body["pairs"]) for body in server.pair_bodies] == [1, 64, 64, 32]
        assert len({body["cache_salt"] for body in server.pair_bodies}) == 1
        assert whole == []
    else:  # it is looked for once
        assert len(server.pair_bodies) == 1
        assert sum(len(body["prompt"]) for body in whole) == 161


def test_a_pair_that_the_route_refuses_is_missing_alone() -> None:
    server = Server(takes_pairs=True)
    pairs = [("one", "ab"), (f"o{chr(BAD)}e", "ab"), ("two", "ab")]

    def work(model: Any) -> Any:
        return model.loglikelihood(instances(pairs)), model.failures

    answers, failures = use(server, work)
    assert [value for value, _ in answers if value == value] == [-(97 + 98)] * 2
    assert failures == {("task", 1): "longer than the model's context"}
    assert len(server.pair_bodies) == 2  # the others were not requested again
