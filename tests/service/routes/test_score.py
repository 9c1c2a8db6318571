"""`/score` over a stub engine: forms, order, single faults, odd engines, clients that leave, and what it costs."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi.testclient import TestClient

from service import scoring
from service.app import create_app
from service.endpoints import Endpoint, _endpoint
from service.keys import add_key
from service.settings import Settings
from service.store.database import Store
from service.tokenizers import load_tokenizer, renderer_of
from tests.service.conftest import engine_row
from tests.support.stub_reward import StubReward, score_of, stub_reward
from tests.support.tiny_models import CONTEXT, conversations, sentences
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.conversations import Refusal

pytestmark = pytest.mark.unit
HELLO = [{"role": "user", "content": "how is the water"}]
OFFSET = 0.5  # of `engine_row`


def answered(text: Any, prompt: list[dict[str, Any]] = HELLO) -> list[dict[str, Any]]:
    return [*prompt, {"role": "assistant", "content": text}]


@pytest.fixture
def stub() -> Iterator[StubReward]:
    with stub_reward() as one:
        one.context = CONTEXT
        yield one


@pytest.fixture
def endpoint(stub: StubReward, tiny_reward: Checkpoint) -> Endpoint:
    row = engine_row("reward-1", url=stub.url, kind="reward")
    manifest = tiny_reward.manifest
    row.manifest = {
        **row.manifest,
        "path": str(tiny_reward.path),
        "stop_ids": list(manifest.stop_ids),
        "pad_id": manifest.pad_id,
    }
    return _endpoint(row)


class Gateway:
    """An in-process gateway with the stub as its only engine."""

    def __init__(self, client: TestClient, key: str, endpoint: Endpoint) -> None:
        self.client, self.endpoint = client, endpoint
        self.headers = {"Authorization": f"Bearer {key}", "content-type": "application/json"}

    def ask(self, body: dict[str, Any]) -> Any:
        content = json.dumps({"model": "reward-1", **body}).encode()
        return self.client.post("/score", content=content, headers=self.headers)

    def data(self, **body: Any) -> list[dict[str, Any]]:
        answer = self.ask(body)
        assert answer.status_code == 200, answer.text
        data: list[dict[str, Any]] = answer.json()["data"]
        assert [row["index"] for row in data] == list(range(len(data)))
        return data

    def ids(self, turns: list[dict[str, Any]]) -> list[int]:
        (row,) = renderer_of(self.endpoint).render([turns])
        assert not isinstance(row, Refusal)
        return row.ids


@pytest.fixture
def gateway(endpoint: Endpoint, stub: StubReward, local_store: Store, tmp_path: Path) -> Iterator[Gateway]:
    with local_store.session() as session:
        row = engine_row("reward-1", url=stub.url, kind="reward")
        row.manifest = {
            **row.manifest, "path": str(endpoint.folder), "stop_ids": list(endpoint.stop_ids), "context": CONTEXT,
        }  # fmt: skip
        session.add(row)
        key = add_key(session, "test", ["score"])[1]
    app = create_app(Settings(database=f"sqlite:///{tmp_path}/service.db", checkpoints=tmp_path))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield Gateway(client, key, endpoint)


def test_the_three_forms_give_the_same_in_the_order_of_the_request(gateway: Gateway) -> None:
    texts = sentences(75, seed=1)  # more than two batches
    expected = [score_of(gateway.ids(answered(text))) for text in texts]
    one = gateway.ask({"messages": HELLO, "responses": texts}).json()
    assert [row["raw"] for row in one["data"]] == pytest.approx(expected)
    assert [row["score"] for row in one["data"]] == pytest.approx([value - OFFSET for value in expected])
    assert [row["tokens"] for row in one["data"]] == [len(gateway.ids(answered(text))) for text in texts]
    assert (one["model"], one["reward_offset"]) == ("reward-1", OFFSET)
    assert one["usage"]["prompt_tokens"] == sum(row["tokens"] for row in one["data"])
    assert gateway.data(conversations=[answered(text) for text in texts]) == one["data"]
    groups = [{"messages": HELLO, "responses": texts[:3]}, {"messages": HELLO, "responses": texts[3:]}]
    assert gateway.data(prompts=groups) == one["data"]


def test_many_prompts_keep_their_responses(gateway: Gateway) -> None:
    prompts = conversations(9, seed=2)
    groups = [{"messages": prompt, "responses": sentences(3, seed=n)} for n, prompt in enumerate(prompts)]
    expected = [score_of(gateway.ids(answered(text, g["messages"]))) for g in groups for text in g["responses"]]
    assert [row["raw"] for row in gateway.data(prompts=groups)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "bad, reason",
    [
        ("half \ud83d", "half a character"),
        ("x" * 1_000_000, f"longer than {CONTEXT} tokens"),
        ("the water " * 300, f"longer than {CONTEXT} tokens"),
        ("a <|end|><|user|> b", "special token"),
        (None, "no text"),
        (7, "no text"),
        ([], "no text"),
        ([{"type": "image_url", "image_url": {}}], "only text"),
    ],
)
def test_a_response_that_cannot_be_scored_keeps_none_of_its_neighbours_from_it(
    gateway: Gateway, bad: Any, reason: str
) -> None:
    first, second, third = gateway.data(messages=HELLO, responses=["yes", bad, "no"])
    assert (first["raw"], third["raw"]) == tuple(score_of(gateway.ids(answered(text))) for text in ("yes", "no"))
    assert set(second) == {"index", "error"}
    assert reason in second["error"]["message"]


def test_what_the_engine_alone_finds_too_long_fails_alone_and_its_own_length_is_stated(
    gateway: Gateway, stub: StubReward
) -> None:
    stub.context = 40
    texts = ["yes", "the water " * 25, *sentences(40, seed=3, longest=5), "the water " * 30]
    data = gateway.data(messages=HELLO, responses=texts)
    long = [len(gateway.ids(answered(text))) > 40 for text in texts]
    assert sum(long) == 2
    assert ["error" in row for row in data] == long
    error = data[1]["error"]
    assert (error["code"], error["message"]) == (
        "context_length_exceeded",
        "longer than the 40 tokens that the engine takes",
    )


def test_a_row_that_the_engine_refuses_for_its_own_reason_fails_alone(gateway: Gateway, stub: StubReward) -> None:
    poison = gateway.ids(answered("poison"))

    def score(ids: Any) -> float:
        if list(ids) == poison:
            raise aiohttp.web.HTTPBadRequest(text='{"error": {"message": "unlucky ids"}}')
        return score_of(ids)

    stub.score = score
    texts = [*sentences(50, seed=4), "poison", *sentences(20, seed=5)]
    data = gateway.data(messages=HELLO, responses=texts)
    assert [row["index"] for row in data if "error" in row] == [50]
    assert "unlucky ids" in data[50]["error"]["message"]
    assert [row["raw"] for row in data if "raw" in row] == pytest.approx(
        [score_of(gateway.ids(answered(text))) for text in texts if text != "poison"]
    )
    assert len(stub.requests) < 20


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_score_that_is_no_number_is_an_error_of_its_response(gateway: Gateway, stub: StubReward, value: Any) -> None:
    odd = gateway.ids(answered("odd"))
    stub.score = lambda ids: value if list(ids) == odd else score_of(ids)
    first, second = gateway.data(messages=HELLO, responses=["odd", "even"])
    assert "no finite score" in first["error"]["message"]
    assert second["raw"] == score_of(gateway.ids(answered("even")))


@pytest.mark.parametrize(
    "content",
    [
        "<html>", "[]", "{}", '{"data": []}', '{"data": 5}', '{"data": [{"index": 0}]}', "",
        '{"data": [{"index": 0, "probs": [1e999]}, {"index": 1, "probs": [1]}]}',
        '{"data": [{"index": 0, "probs": [1' + "0" * 400 + ']}, {"index": 1, "probs": [1]}]}',
        '{"data": [{"index": 1e999, "probs": [1]}, {"index": 1, "probs": [1]}]}',
        '{"data": [{"index": 0, "probs": []}]}', '{"data": [{"index": 0, "probs": ["x"]}]}', '{"data": [null]}',
    ],
)  # fmt: skip
def test_an_engine_that_answers_something_else(gateway: Gateway, stub: StubReward, content: str) -> None:
    stub.answer = (content, "text/html")
    answer = gateway.ask({"messages": HELLO, "responses": ["a", "b"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_error")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": answered("x"), "responses": ["y"]},
        {"messages": [], "responses": ["y"]},
        {"prompts": [{"messages": HELLO, "responses": ["y"]}, {"messages": answered("x"), "responses": ["y"]}]},
        {"prompts": [{"messages": HELLO, "responses": []}]},
        {"prompts": []},
        {"prompts": [{"messages": HELLO, "responses": ["x"]}], "conversations": [answered("y")]},
        {"responses": ["y"]},
    ],
)
def test_a_request_of_no_known_form_is_refused(gateway: Gateway, body: dict[str, Any]) -> None:
    answer = gateway.ask(body)
    assert answer.status_code == 400
    assert gateway.ask({"messages": HELLO, "responses": ["y"]}).status_code == 200


def test_turns_are_counted_before_they_are_taken_in(gateway: Gateway) -> None:
    turns = answered("yes", HELLO * 20_000)
    bodies: list[dict[str, Any]] = [
        {"conversations": [turns]},
        {"messages": HELLO * 20_001, "responses": ["y"]},
        {"prompts": [{"messages": HELLO * 201, "responses": ["y"]}] * 100},
    ]
    for body in bodies:
        refused = gateway.ask(body)
        assert refused.status_code == 400
        assert refused.json()["error"]["message"] == "more than 20,000 turns in one request: send fewer at a time"
    # Words are no turns, and 20,000 are taken: here as one that is too long for its engine.
    (row,) = gateway.data(messages=HELLO, responses=['"role" ' * 20_001])
    assert f"longer than {CONTEXT} tokens" in row["error"]["message"]
    (row,) = gateway.data(conversations=[turns[1:]])
    assert f"longer than {CONTEXT} tokens" in row["error"]["message"]


def test_a_conversation_without_an_answer_is_its_own_error(gateway: Gateway) -> None:
    first, second = gateway.data(conversations=[HELLO, answered("yes")])
    assert "must end with the assistant" in first["error"]["message"]
    assert "raw" in second


def test_batches_are_at_the_engine_together(gateway: Gateway, stub: StubReward) -> None:
    stub.seconds = 0.2
    gateway.data(messages=HELLO, responses=sentences(scoring.BATCH * scoring.IN_FLIGHT, seed=6))
    assert stub.most_at_once >= 2
    assert max(stub.requests) <= scoring.BATCH


def test_a_client_that_leaves_ends_the_work(endpoint: Endpoint, stub: StubReward) -> None:
    stub.seconds = 30
    pool = scoring.new_pool()

    async def leave() -> None:
        async with aiohttp.ClientSession() as http:
            rows = [answered(text) for text in sentences(200, seed=7)]
            task = asyncio.create_task(scoring.score_all(http, pool, endpoint, rows))
            while not stub.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(leave())
    deadline = time.monotonic() + 10
    while stub.left < len(stub.requests) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert stub.left == len(stub.requests) <= scoring.IN_FLIGHT
    pool.shutdown()


def rendering_seconds(endpoint: Endpoint, turns: int) -> float:
    conversation = [{"role": ("user", "assistant")[n % 2], "content": "yes it is"} for n in range(turns)]
    renderer = renderer_of(endpoint)
    scoring.token_rows(renderer, endpoint, [conversation])
    began = time.process_time()
    for _ in range(3):
        (row,) = scoring.token_rows(renderer, endpoint, [conversation])
        assert isinstance(row, list)
    return time.process_time() - began


def test_rendering_grows_with_its_input_and_no_faster(endpoint: Endpoint) -> None:
    long = replace(endpoint, context=1_000_000)
    few, many = rendering_seconds(long, 200), rendering_seconds(long, 3200)
    assert many < 3 * 16 * few + 0.05, "sixteen times the turns; quadratic work would take 256 times as long"


def test_what_is_surely_too_long_costs_nothing(endpoint: Endpoint) -> None:
    load_tokenizer(endpoint.folder)
    renderer = renderer_of(endpoint)
    turns = [{"role": ("user", "assistant")[n % 2], "content": "x"} for n in range(100_000)]
    words = answered("word " * 800_000)
    scoring.token_rows(renderer, endpoint, [answered("x")])
    began = time.process_time()
    rows = scoring.token_rows(renderer, endpoint, [turns, words, answered("x")])
    assert time.process_time() - began < 0.2
    assert [isinstance(row, Refusal) for row in rows] == [True, True, False]


def test_its_threads_are_its_own(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight large requests at once, and everybody else is answered meanwhile."""
    slow = scoring.token_rows

    def rows(*arguments: Any) -> Any:
        time.sleep(0.5)
        return slow(*arguments)

    monkeypatch.setattr(scoring, "token_rows", rows)
    with ThreadPoolExecutor(9) as threads:
        scored = [threads.submit(gateway.ask, {"messages": HELLO, "responses": ["a"]}) for _ in range(8)]
        time.sleep(0.3)
        began = time.monotonic()
        assert gateway.client.get("/v1/models", headers=gateway.headers).status_code == 403
        assert time.monotonic() - began < 1.2
        assert [answer.result().status_code for answer in scored] == [200] * 8
