"""Administration by many at once: each change happens whole or not at all, and nobody meets a failure."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from service import aliases
from service.app import create_app
from service.keys import add_key
from service.preferences import prompts
from service.settings import Settings
from service.store.database import Store
from service.store.models import Alias, Audit
from tests.service.conftest import engine_row

THREADS, ROUNDS = 8, 12
NAMES = ("policy/production", "policy/candidate")
CHECKPOINTS = ("sft-1", "sft-2", "sft-3")


@pytest.fixture
def admin(store: Store, tmp_path: Path) -> Iterator[TestClient]:
    with store.session() as session:
        key = add_key(session, "test", ["admin"])[1]
        for checkpoint in CHECKPOINTS:
            session.add(engine_row(checkpoint))
    url = store.engine.url.render_as_string(hide_password=False)
    app = create_app(Settings(database=url, checkpoints=tmp_path))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        yield client


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """The results of `work` in as many threads as it takes, begun together."""
    begin = threading.Barrier(THREADS)

    def run(number: int) -> Any:
        begin.wait(20)
        return work(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(run, range(THREADS)))


def test_of_many_who_saw_the_same_version_one_changes_the_alias(admin: TestClient, store: Store) -> None:
    for version in range(ROUNDS):
        body = {"checkpoint": CHECKPOINTS[version % 3], "version": version}
        statuses = at_once(lambda _, body=body: admin.put(f"/admin/aliases/{NAMES[0]}", json=body).status_code)  # type: ignore[misc]
        assert Counter(statuses) == {200: 1, 409: THREADS - 1}
    with store.session() as session:
        assert session.get_one(Alias, NAMES[0]).version == ROUNDS
        assert len(session.scalars(select(Audit).where(Audit.action == "promote")).all()) == ROUNDS


def test_promotions_rollbacks_removals_and_supervisors_at_once(admin: TestClient, store: Store) -> None:
    """The audit tells the whole story: each alias's versions rise by one, and its last row is what the table holds."""

    def work(number: int) -> list[tuple[int, str]]:
        rng, seen = random.Random(number), []
        for _ in range(ROUNDS):
            name, checkpoint = rng.choice(NAMES), rng.choice(CHECKPOINTS)
            path = f"/admin/aliases/{name}"
            action = rng.randrange(7)
            if action < 3:
                answer = admin.put(path, json={"checkpoint": checkpoint})
            elif action == 3:
                answer = admin.post(f"{path}/rollback")
            elif action == 4:
                answer = admin.delete(path)
            elif action == 5:
                answer = admin.post("/admin/engines", json={"checkpoint": checkpoint, "options": {}})
            else:
                with store.session() as session:
                    row = session.get(Alias, name)
                    settle = rng.choice((aliases.serve, lambda *given: aliases.take_back(*given[:3], "x", given[3])))
                    if row is not None:
                        settle(session, name, row.version, f"supervisor {number}")
                continue
            seen.append((answer.status_code, answer.text))
        return seen

    answers = [answer for seen in at_once(work) for answer in seen]
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) <= {200, 202, 400, 404, 409}, [text for status, text in answers if status >= 500]
    assert statuses[200] > THREADS
    with store.session() as session:
        for name in NAMES:
            changes = [
                row
                for row in session.scalars(select(Audit).where(Audit.subject == name).order_by(Audit.id))
                if row.action != "served"
            ]
            version = 0
            for row in changes:
                removed = row.action == "remove" or row.detail["checkpoint"] is None
                assert row.detail["version"] == (version if removed else version + 1), (row.action, row.detail)
                version = 0 if removed else version + 1
            row = session.get(Alias, name)
            assert (0 if row is None else row.version) == version


@pytest.mark.parametrize(
    "path, body, good",
    [
        ("/admin/labelers", {"name": "Ada"}, 201),
        ("/admin/engines", {"checkpoint": "sft-1", "options": {"tensor_parallel_size": 2}}, 202),
        ("/admin/pool/retire", {"prompts": ["p"], "reason": "x"}, 200),
        ("/admin/pool/restore", {"prompts": ["p"]}, 200),
        ("/admin/prompts", {"prompts": [{"id": "q", "prompt": "new?"}]}, 200),
        ("/admin/prompts", {"prompts": [{"id": "p", "prompt": "corrected?"}], "correct": True}, 200),
    ],
)
def test_the_same_request_many_times_at_once(
    admin: TestClient, store: Store, path: str, body: dict[str, Any], good: int
) -> None:
    prompts.import_rows(store, [{"id": "p", "prompt": "?"}])
    answers = at_once(lambda _: admin.post(path, json=body))
    assert {answer.status_code for answer in answers} <= {good, 409}, [answer.text for answer in answers]
    assert good in {answer.status_code for answer in answers}
    if path == "/admin/labelers":
        assert [answer.status_code for answer in answers].count(good) == 1
