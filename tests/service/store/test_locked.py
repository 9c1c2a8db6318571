"""Another process holds SQLite's write lock longer than the service waits: 503 with Retry-After, and then it works."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.labelers import add_labeler
from service.preferences import tasks
from service.preferences.prompts import typed_prompt
from service.store import migrating
from service.store.database import Store
from training.artifacts.comparisons import Response

pytestmark = pytest.mark.unit


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/tasks/next", {"kind": "rank", "k": 4}),
        ("/api/session", {"token": "TOKEN"}),
        ("/admin/engines", {"checkpoint": "sft-1"}),
        ("/admin/prompts", {"prompts": [{"id": "p", "prompt": "?"}]}),
        ("/admin/labelers", {"name": "somebody"}),
    ],
)
def test_what_writes_is_503_and_says_when_to_come_back(
    path: str,
    body: dict[str, object],
    tmp_path: Path,
    local_store: Store,
    app_client: Callable[..., TestClient],
    make_key: Callable[..., dict[str, str]],
    add_engine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(migrating, "BUSY_SECONDS", 0.1)
    add_engine("sft-1")
    with local_store.session() as session:
        labeler, token = add_labeler(session, "ada", None)
        prompt = typed_prompt(session, [{"role": "user", "content": "?"}], "ada")
        # Whoever asks for the next task closes what was left open too long.
        responses = [Response("red"), Response("green")]
        tasks.open_task(session, labeler.id, "rank", prompt.id, responses, guideline="1", propensity=None, minutes=-1)
    client = app_client()
    body = {name: token if value == "TOKEN" else value for name, value in body.items()}
    headers = make_key("admin")
    if path.startswith("/api/tasks"):
        headers = {"X-CSRF-Token": client.post("/api/session", json={"token": token}).json()["csrf"]}
    with locked(tmp_path / "service.db"):
        answer = client.post(path, json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert answer.headers["Retry-After"].isdecimal()
    after = client.post(path, json=body, headers=headers)
    assert after.status_code < 300 or after.json()["error"]["code"] == "no_policy", after.text
