"""What `training demo` and `training loop` do with aliases and engines: gateway and supervisor over stub engines."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from rich.console import Console

from service.app import create_app
from service.engines import supervisor
from service.engines.supervisor import Supervisor
from service.keys import add_key
from service.settings import Settings
from service.store.database import Store
from tests.support.stub_engines import StubEngines, copies
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError
from training.loop import client, turn
from training.loop.client import Service

pytestmark = pytest.mark.unit
PRODUCTION, CANDIDATE = "policy/production", "policy/candidate"


@dataclass(frozen=True)
class InProcess(Service):
    """The loop's client, sending its requests to a gateway in this process."""

    gateway: TestClient

    def ask(self, method: str, path: str, **options: Any) -> Any:
        answer = self.gateway.request(method, path, headers={"Authorization": f"Bearer {self.key}"}, **options)
        if answer.status_code >= 400:
            raise UserError(f"{path} answered {answer.status_code}: {answer.text}")
        return answer.json()

    def served(self) -> dict[str, str]:
        return {model["id"]: model["root"] for model in self.ask("GET", "/v1/models")["data"]}

    def promote(self, alias: str, checkpoint: str) -> None:
        self.ask("PUT", f"/admin/aliases/{alias}", json={"checkpoint": checkpoint})


@pytest.fixture
def service(
    tmp_path: Path, empty_sqlite: Path, tiny_policy: Checkpoint, stubs: StubEngines, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InProcess]:
    monkeypatch.setattr(client, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.5)
    copies(tiny_policy, tmp_path / "checkpoints", ["sft", "first", "turn", "control"])
    shutil.copy(empty_sqlite, tmp_path / "service.db")
    values = {"database": f"sqlite:///{tmp_path}/service.db", "checkpoints": tmp_path / "checkpoints"}
    settings = Settings.model_validate(values | {"logs": tmp_path, "kv_cache_mib": 64})
    store = Store(settings.database)
    with store.session() as session:
        key = add_key(session, "loop", ["admin"])[1]
    store.close()
    with (
        following(Supervisor(settings, (), {}, Console(file=io.StringIO()))),
        TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as gateway,
    ):
        yield InProcess("http://127.0.0.1:8000", key, gateway)


@contextmanager
def following(running: Supervisor) -> Iterator[None]:
    thread = threading.Thread(target=running.run, name="supervisor")
    thread.start()
    try:
        yield
    finally:
        running.stop.set()
        thread.join()


def test_two_promotions_and_a_turn_with_its_control(service: InProcess) -> None:
    # The demo's first turn.
    service.promote(PRODUCTION, "sft")
    client.wait_until_served(service, {"sft": "sft", PRODUCTION: "sft"})
    # A second promotion is waited for, although the alias answers all the time.
    service.promote(PRODUCTION, "first")
    client.wait_until_served(service, {"first": "first", PRODUCTION: "first"})
    assert turn._resolve_alias(service, PRODUCTION) == "first"
    # The next turn: engines for the policy and its control, the candidate keeps its engine, the control's ends.
    turn._serve(service, ["turn", "control"])
    assert {"turn", "control"} <= set(service.served())
    service.promote(CANDIDATE, "turn")
    turn._release(service, ["turn", "control", "never-requested"])
    client.wait_until_served(service, {PRODUCTION: "first", CANDIDATE: "turn"})
    assert service.ask("GET", "/admin/engines")["wanted"] == []


def test_the_baseline_is_what_answers_while_a_promotion_cannot_be_served(
    service: InProcess, stubs: StubEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SETTLE_SECONDS", 0.0)
    service.promote(PRODUCTION, "sft")
    client.wait_until_served(service, {PRODUCTION: "sft"})
    stubs.faults["turn"] = "wrong"
    service.promote(PRODUCTION, "turn")
    assert turn._resolve_alias(service, PRODUCTION) == "sft"
    with pytest.raises(UserError, match="turn cannot be served: "):
        turn._serve(service, ["turn"])
    assert service.served()[PRODUCTION] == "sft"
