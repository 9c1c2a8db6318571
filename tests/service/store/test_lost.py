"""A database that is busy, gone or silent: known keys and engines go on, what needs it answers 503 with Retry-After."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url

from service import known_keys
from service.app import create_app
from service.keys import add_key
from service.settings import Settings
from service.store import migrating
from service.store.database import Store
from tests.service.conftest import empty_postgresql, engine_row
from tests.support.cut_off import Cuttable
from training.artifacts.errors import UserError

SCORE = {"model": "reward-1", "messages": [{"role": "user", "content": "x"}], "responses": ["y"]}


class Lost:
    """A gateway whose PostgreSQL can be cut off, and two keys, of which it has seen the first."""

    def __init__(self, client: TestClient, way: Cuttable, store: Store) -> None:
        self.client, self.way = client, way
        with store.session() as session:
            session.add(engine_row("sft-1"))
            self.known, self.unknown = (
                {"Authorization": f"Bearer {add_key(session, name, ['admin'])[1]}"} for name in ("a", "b")
            )
        deadline = time.monotonic() + 10
        while not client.get("/v1/models", headers=self.known).json()["data"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def status(self, path: str, headers: dict[str, str]) -> tuple[int, str | None]:
        answer = self.client.get(path, headers=headers)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
            return 503, answer.json()["error"]["code"]
        return answer.status_code, None


@pytest.fixture
def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lost]:
    monkeypatch.setattr(known_keys, "PATIENCE_SECONDS", 0.3)
    with empty_postgresql() as url:
        server = make_url(url)
        assert server.host is not None
        with Cuttable(server.host, server.port or 5432) as way:
            through = server.set(host="127.0.0.1", port=way.port).render_as_string(hide_password=False)
            store = Store(url)
            app = create_app(Settings(database=through, checkpoints=tmp_path))
            with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
                yield Lost(client, way, store)
                way.restore()
            store.close()


MODELS = "/v1/models"


@pytest.mark.integration
@pytest.mark.parametrize("how", ["cut", "silence"])
def test_without_its_database_known_keys_work_and_the_rest_is_503(lost: Lost, how: str) -> None:
    getattr(lost.way, how)()
    time.sleep(1.2)
    for _ in range(3):
        began = time.monotonic()
        assert lost.status(MODELS, lost.known) == (200, None)
        assert time.monotonic() - began < 1.5
    chat = {"model": "sft-1", "messages": [{"role": "user", "content": "hello"}]}
    answer = lost.client.post("/v1/chat/completions", json=chat, headers=lost.known)
    assert answer.json()["error"]["message"] == "the engine of sft-1 is down", "it was routed"
    if how == "silence":
        lost.way.cut()  # what waits for a silent server ends after ten seconds: the test does not wait as long
    assert lost.status("/admin/keys", lost.known) == (503, "store_unavailable")
    assert lost.status(MODELS, lost.unknown) == (503, "store_unavailable")
    lost.way.restore()
    deadline = time.monotonic() + 15
    while lost.status(MODELS, lost.unknown)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert lost.status("/admin/keys", lost.known) == (200, None)


@pytest.mark.integration
def test_a_known_key_ends_after_a_while_or_when_it_expires(lost: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    lost.way.cut()
    time.sleep(1.2)
    assert lost.status(MODELS, lost.known) == (200, None)
    monkeypatch.setattr(known_keys, "KEPT_SECONDS", 0.5)
    assert lost.status(MODELS, lost.known) == (503, "store_unavailable")


@pytest.mark.unit
def test_a_locked_sqlite_store_is_503(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    app_client: Callable[..., TestClient],
    make_key: Callable[..., dict[str, str]],
) -> None:
    monkeypatch.setattr(migrating, "BUSY_SECONDS", 0.2)
    client, key = app_client(), make_key("admin")
    locked = sqlite3.connect(tmp_path / "service.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    body = {"name": "x", "scopes": ["score"]}
    assert client.get(MODELS, headers=key).status_code == 200
    answer = client.post("/admin/keys", json=body, headers=key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert answer.headers["retry-after"]
    locked.execute("ROLLBACK")
    assert client.post("/admin/keys", json=body, headers=key).status_code == 201
    locked.close()


@pytest.mark.unit
def test_a_command_says_that_the_database_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.__main__ import main

    monkeypatch.setattr(migrating, "BUSY_SECONDS", 0.2)
    store = Store(f"sqlite:///{tmp_path}/service.db")
    store.migrate()
    locked = sqlite3.connect(tmp_path / "service.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="is busy: end the process that holds its lock"):
        main(["keys", "add", "x", "--scopes", "score", "--home", str(tmp_path)])
    locked.close()
