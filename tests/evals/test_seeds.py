"""Every sampled answer has a seed of its own, the same for every system and in every rerun."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from evals.bench import Bench
from evals.client import Client
from evals.generation import Answer, Sampling
from evals.options import Config
from evals.results import Ask, prompt_hash
from evals.seeds import answer_seed
from evals.sources import Sources
from evals.subjects import Subject
from evals.world import preference

pytestmark = pytest.mark.unit
QUESTION = [{"role": "user", "content": "name three fruits ."}]
SAMPLED = Sampling(temperature=0.8)


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": identity, "messages": QUESTION, "spec": {}} for identity in ids]


def requests_of(ask: Ask, run_seed: int, items: list[dict[str, Any]], sampling: Sampling = SAMPLED) -> list[Any]:
    """The bodies that a system's answers to `items` are asked with, in order, and the answers."""
    bodies: list[dict[str, Any]] = []

    async def handler(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        text = {"message": {"content": "yes"}} if "chat" in request.path else {"text": "yes"}
        return web.json_response({"choices": [{"index": 0, "finish_reason": "stop", **text}]})

    async def run() -> list[Any]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        async with TestServer(app) as server, Client(str(server.make_url("")).rstrip("/"), concurrency=1) as client:
            options = Config(seed=run_seed)
            bench = Bench(client, Subject("m", ask, "m"), Sources(), options)
            return [answer for (answer,) in await bench.answers("preference", items, "prompts", sampling)]

    return [bodies, asyncio.run(run())]


def test_a_seed_follows_from_run_suite_item_prompt_and_sample() -> None:
    name = b'[0, "preference", "a", "hash", 0]'
    assert answer_seed(0, "preference", "a", "hash") == int(hashlib.sha256(name).hexdigest()[:12], 16)
    others = [
        answer_seed(1, "preference", "a", "hash"),
        answer_seed(0, "truth", "a", "hash"),
        answer_seed(0, "preference", "b", "hash"),
        answer_seed(0, "preference", "a", "other"),
        answer_seed(0, "preference", "a", "hash", 1),
    ]
    assert len({answer_seed(0, "preference", "a", "hash"), *others}) == 6


@pytest.mark.parametrize("ask", ["chat", "plain", "few-shot"])
def test_each_prompt_is_asked_with_a_seed_of_its_own_whatever_the_system(ask: Ask) -> None:
    items = rows("a", "b", "c")
    bodies, answers = requests_of(ask, 5, items)
    expected = [answer_seed(5, "preference", i["id"], prompt_hash(QUESTION)) for i in items]
    assert [body["seed"] for body in bodies] == expected
    assert len(set(expected)) == 3
    assert [answer.seed for answer in answers] == expected
    assert all("prompt" not in body or isinstance(body["prompt"], str) for body in bodies)
    assert [body["seed"] for body in requests_of(ask, 5, items)[0]] == expected
    assert not {body["seed"] for body in requests_of(ask, 6, items)[0]} & set(expected)


def test_greedy_answers_send_no_seed() -> None:
    bodies, answers = requests_of("chat", 0, rows("a"), Sampling())
    assert "seed" not in bodies[0]
    assert answers[0].seed is None


def test_a_sampled_answer_without_a_seed_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="a seed of its own"):
        SAMPLED.body(None)


def test_the_record_of_an_item_holds_its_seed() -> None:
    spec = {"task": "unknown", "topic": ["x"], "limit": 9}
    row = {"id": "a", "messages": QUESTION, "spec": spec}
    assert preference.items_of([row], [Answer("i do not know .", "stop", 77)])[0].seed == 77
