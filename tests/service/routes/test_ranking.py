"""`best_of` with `"rank_by": "reward"` over stub engines: the order, what is reported, single faults, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fastapi.testclient import TestClient

from service import keys
from service.app import create_app
from service.settings import Settings
from service.store.database import Store
from service.tokenizers import renderer_for
from tests.service.conftest import engine_row
from tests.support.stub_engine import StubEngine, chat_answer, stub_engine
from tests.support.stub_reward import StubReward, stub_reward
from tests.support.tiny_models import CONTEXT
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.conversations import Refusal

pytestmark = pytest.mark.unit
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "how is the water"}]
TEXTS = ["cold", "warm and clear", "deep", "blue"]
RAW = dict(zip(TEXTS, (1.0, 4.0, 2.0, 3.0), strict=True))
OFFSET = 0.5  # of `engine_row`


@dataclass
class Ranked:
    """A gateway with a policy that answers `TEXTS` and a reward model that scores them by `RAW`."""

    client: TestClient
    policy: StubEngine
    judge: StubReward
    ids: Callable[[str], tuple[int, ...]]
    add_key: Callable[..., str]

    def ask(self, key: str | None = None, **fields: Any) -> Any:
        body = {"model": "sft-1", "messages": HELLO, "best_of": 4, "rank_by": "reward", "reward_model": "reward-1"}
        content = json.dumps({name: value for name, value in {**body, **fields}.items() if value is not None})
        headers = {"Authorization": f"Bearer {key or self.add_key('generate', 'score')}"}
        return self.client.post("/v1/chat/completions", content=content, headers=headers)

    def score_by(self, raw: dict[str, float]) -> None:
        by_ids = {self.ids(text): value for text, value in raw.items()}
        self.judge.score = lambda ids: by_ids[tuple(ids)]


@pytest.fixture
def ranked(local_store: Store, tmp_path: Path, tiny_reward: Checkpoint) -> Iterator[Ranked]:
    manifest = tiny_reward.manifest

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(chat_answer(body, TEXTS[: body["n"]]))

    def ids(text: str) -> tuple[int, ...]:
        renderer = renderer_for(tiny_reward.path, manifest.system, tuple(manifest.stop_ids))
        (row,) = renderer.render([[*HELLO, {"role": "assistant", "content": text}]])
        assert not isinstance(row, Refusal)
        return tuple(row.ids)

    def add_key(*scopes: str) -> str:
        with local_store.session() as session:
            return keys.add_key(session, "test", scopes)[1]

    with stub_engine(answer) as policy, stub_reward() as judge:
        judge.context = CONTEXT
        row = engine_row("reward-1", url=judge.url, kind="reward")
        row.manifest = {
            **row.manifest, "path": str(tiny_reward.path), "stop_ids": list(manifest.stop_ids), "context": CONTEXT,
        }  # fmt: skip
        with local_store.session() as session:
            session.add(engine_row("sft-1", url=policy.url))
            session.add(row)
        app = create_app(Settings(database=f"sqlite:///{tmp_path}/service.db", checkpoints=tmp_path))
        with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
            gateway = Ranked(client, policy, judge, ids, add_key)
            gateway.score_by(RAW)
            yield gateway


def texts_of(answer: Any) -> Sequence[str]:
    assert answer.status_code == 200, answer.text
    return [choice["message"]["content"] for choice in answer.json()["choices"]]


def test_the_best_answers_return_best_first_with_their_scores(ranked: Ranked) -> None:
    answer = ranked.ask(n=2)
    assert texts_of(answer) == ["warm and clear", "blue"]
    body = answer.json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert [choice["score"] for choice in body["choices"]] == [4.0 - OFFSET, 3.0 - OFFSET]
    assert body["ranking"] == {"model": "reward-1", "scores": [RAW[text] - OFFSET for text in TEXTS]}
    assert body["usage"]["completion_tokens"] > 0


def test_the_policy_samples_all_and_reads_no_field_of_the_ranking(ranked: Ranked) -> None:
    assert texts_of(ranked.ask()) == ["warm and clear"]
    ((_, body),) = [(path, body) for path, body in ranked.policy.seen if path == "/v1/chat/completions"]
    assert body["n"] == 4
    assert not {"best_of", "rank_by", "reward_model"} & set(body)
    assert ranked.judge.requests == [4]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_answer_without_a_finite_score_is_never_the_best(ranked: Ranked, value: float) -> None:
    ranked.score_by({**RAW, "warm and clear": value})
    answer = ranked.ask(n=3)
    assert texts_of(answer) == ["blue", "deep", "cold"]
    assert answer.json()["ranking"]["scores"][1] is None
    refused = ranked.ask(n=4)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_scored")
    assert "3 of 4 answers" in refused.json()["error"]["message"]


def test_an_answer_that_the_reward_engine_finds_too_long_keeps_none_of_the_others_from_a_score(ranked: Ranked) -> None:
    ranked.judge.context = len(ranked.ids("warm and clear")) - 1
    assert max(len(ranked.ids(text)) for text in TEXTS if text != "warm and clear") <= ranked.judge.context
    answer = ranked.ask(n=2)
    assert texts_of(answer) == ["blue", "deep"]
    assert answer.json()["ranking"]["scores"][1] is None


def test_a_key_without_the_scope_of_scores_may_not_rank(ranked: Ranked) -> None:
    answer = ranked.ask(key=ranked.add_key("generate"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
    assert not ranked.policy.seen


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"rank_by": "length"}, "rank_by"),
        ({"rank_by": ["reward"]}, "rank_by"),
        ({"rank_by": None}, "reward_model"),
        ({"best_of": None}, "best_of"),
        ({"best_of": 0}, "best_of"),
        ({"best_of": True}, "best_of"),
        ({"best_of": 65}, "best_of"),
        ({"best_of": "4"}, "best_of"),
        ({"n": 5}, "n"),
        ({"n": -1}, "n"),
        ({"n": "2"}, "n"),
        ({"stream": True}, "stream"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"reward_model": 7}, "reward_model"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_anything_is_sampled(
    ranked: Ranked, fields: dict[str, Any], param: str
) -> None:
    answer = ranked.ask(**fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert not ranked.policy.seen


@pytest.mark.parametrize("name", ["reward-2", "sft-1"])
def test_a_reward_model_that_is_not_served_is_refused_before_anything_is_sampled(ranked: Ranked, name: str) -> None:
    answer = ranked.ask(reward_model=name)
    assert 400 <= answer.status_code < 500, answer.text
    assert not ranked.policy.seen


def test_a_reward_engine_that_answers_something_else_is_an_error_of_the_engine(ranked: Ranked) -> None:
    ranked.judge.answer = ('{"data": []}', "application/json")
    answer = ranked.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_error")
