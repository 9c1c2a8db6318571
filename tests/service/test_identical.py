"""Collecting: identical responses are never shown, and a prompt that no policy can take holds up nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from service.endpoints import _endpoint
from service.labelers import add_labeler
from service.preferences import assignment, preparation, prompts
from service.preferences.sampling import Sampled, UnusablePrompt, distinct
from service.store.database import Store
from service.store.models import Prompt, SetAside, Task
from tests.service.conftest import engine_row
from training.artifacts.comparisons import Response

pytestmark = pytest.mark.unit
Build = Callable[..., TestClient]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Prompt text -> what the policies answer to it; a prompt that is not here is refused by every engine."""
    script: dict[str, list[str]] = {}

    async def sample(*arguments: Any) -> Sampled:
        text = arguments[3][-1]["content"]
        if text not in script:
            refusal = UnusablePrompt(400, "System role not supported", code="invalid_value")
            return Sampled([], 0.0, {endpoint.checkpoint: refusal for endpoint in arguments[2]})
        texts = enumerate(script[text])
        return Sampled([Response(a, f"policy-{i % 2}", {"seed": i}, "stop") for i, a in texts], 1.0, {})

    two = [_endpoint(engine_row(f"policy-{i}")) for i in range(2)]
    monkeypatch.setattr(preparation, "sample", sample)
    for module in (preparation, assignment):
        monkeypatch.setattr(module, "policies", lambda *_: two)
    return script


@pytest.fixture
def labelers(app_client: Build, local_store: Store) -> list[TestClient]:
    clients = []
    for name in ("Ada", "Bob"):
        with local_store.session() as session:
            _, token = add_labeler(session, name, "training")
        client = app_client(collect_ahead=0, collect_policies=["policy-0", "policy-1"])
        client.headers["X-CSRF-Token"] = client.post("/api/session", json={"token": token}).json()["csrf"]
        clients.append(client)
    return clients


def store_prompts(store: Store, *texts: str) -> None:
    prompts.import_rows(store, [{"id": text, "prompt": text} for text in texts])


def take(client: TestClient, kind: str = "rank", k: int = 4, status: int = 200) -> dict[str, Any]:
    reply = client.post("/api/tasks/next", json={"kind": kind, "k": k})
    assert reply.status_code == status, reply.text
    body: dict[str, Any] = reply.json()
    return body


def test_a_ranking_shows_only_different_responses(
    answers: dict[str, list[str]], labelers: list[TestClient], local_store: Store
) -> None:
    store_prompts(local_store, "q")
    answers["q"] = ["a", "b", "a ", "b"]
    task = take(labelers[0])["task"]
    assert sorted(r["text"].strip() for r in task["responses"]) == ["a", "b"]
    assert task["k"] == 2
    # The page asks for k = 4 again after a reload, and gets the same task.
    again = labelers[0].post("/api/tasks/next", json={"kind": "rank", "k": 4, "resume": True}).json()["task"]
    assert again["id"] == task["id"]
    given = labelers[0].post(f"/api/tasks/{task['id']}/answer", json={"token": again["token"], "ranks": [1, 2]})
    assert given.status_code == 200, given.text


def test_of_equal_responses_each_policys_stays_equally_often(answers: dict[str, list[str]]) -> None:
    same = [Response("a", f"policy-{i}") for i in range(2)] + [Response("b", "policy-0")]
    kept = [distinct(same) for _ in range(400)]
    assert {tuple(r.text for r in rows) for rows in kept} == {("a", "b")}
    first = sum(rows[0].checkpoint == "policy-0" for rows in kept)
    assert 140 < first < 260  # half of 400, six standard deviations wide


def test_a_prompt_with_identical_responses_is_passed_over_and_counted(
    answers: dict[str, list[str]], labelers: list[TestClient], local_store: Store
) -> None:
    store_prompts(local_store, "same", "other")
    answers["same"], answers["other"] = ["x", "x"], ["y", "z"]
    replies = [take(labelers[0], "compare", 2) for _ in range(2)]
    assert [r["task"] and r["task"]["prompt_id"] for r in replies] == ["other", None]
    assert sum(r["identical"] for r in replies) == 1
    with local_store.session() as session:
        (passed,) = session.scalars(select(Task).where(Task.state == "identical"))
        assert [r.text for r in passed.responses] == ["x", "x"]
        assert session.get_one(Prompt, "same").retired is None
    assert {r["task"] and r["task"]["prompt_id"] for r in (take(labelers[1], "compare", 2),)} == {"other"}


def test_identical_responses_to_a_typed_prompt_are_said(
    answers: dict[str, list[str]], labelers: list[TestClient]
) -> None:
    answers["mine"] = ["x", "x"]
    reply = labelers[0].post("/api/tasks/prompt", json={"text": "mine"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "identical_responses")


def test_where_every_prompt_gives_identical_responses_the_reason_is_said(
    answers: dict[str, list[str]], labelers: list[TestClient], local_store: Store
) -> None:
    texts = [f"q{i}" for i in range(30)]
    store_prompts(local_store, *texts)
    answers.update({text: ["x", "x"] for text in texts})
    error = take(labelers[0], "compare", 2, status=503)["error"]
    assert error["code"] == "identical_responses"
    assert "collect_temperature" in error["message"]


def test_a_prompt_that_every_policy_refuses_is_set_aside_with_its_reason_and_everybody_goes_on(
    answers: dict[str, list[str]], labelers: list[TestClient], local_store: Store
) -> None:
    store_prompts(local_store, "with a system turn", "good", "fine")
    answers["good"] = answers["fine"] = ["a", "b"]
    given = [take(client, "compare", 2)["task"]["prompt_id"] for client in labelers for _ in range(2)]
    assert sorted(given) == ["fine", "fine", "good", "good"]
    assert take(labelers[0], "compare", 2)["task"] is None
    with local_store.session() as session:
        assert session.get_one(Prompt, "with a system turn").retired is None
        rows = session.scalars(select(SetAside)).all()
        assert {(row.prompt_id, row.checkpoint, row.reason) for row in rows} == {
            ("with a system turn", f"policy-{i}", "System role not supported") for i in range(2)
        }


def test_where_every_prompt_is_refused_none_is_retired_and_the_labeler_is_told(
    answers: dict[str, list[str]], labelers: list[TestClient], local_store: Store
) -> None:
    store_prompts(local_store, *(f"q{i}" for i in range(30)))
    for _ in range(2):
        body = take(labelers[0], "compare", 2)
        assert body["task"] is None
        assert body["progress"] == {"answered": 0, "left": 0, "set_aside": 30}
    with local_store.session() as session:
        assert all(prompt.retired is None for prompt in session.scalars(select(Prompt)))
