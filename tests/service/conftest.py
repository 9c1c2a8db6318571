"""Stores and in-process gateways for the service's own tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from fastapi.testclient import TestClient
from psycopg import sql
from sqlalchemy import delete

from service.app import create_app
from service.keys import add_key
from service.settings import Settings
from service.store.database import Store
from service.store.models import Alias, Engine, now
from tests.support.live_service import Running

POSTGRES = os.environ.get("ALIGNLOOP_TEST_POSTGRES", "postgresql://root@127.0.0.1:5432/test")


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file after all migrations: copying it is some times faster than migrating for every test."""
    path = tmp_path_factory.mktemp("store") / "service.db"
    store = Store(f"sqlite:///{path}")
    store.migrate()
    store.close()
    return path


@pytest.fixture(
    params=[
        pytest.param("sqlite", marks=pytest.mark.unit),
        pytest.param("postgresql", marks=pytest.mark.integration),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path, empty_sqlite: Path) -> Iterator[Store]:
    """An empty store: SQLite in the unit tier, PostgreSQL where a server runs (in CI it must)."""
    if request.param == "sqlite":
        yield from _copied(empty_sqlite, tmp_path)
        return
    with empty_postgresql() as url:
        yield from _migrated(url)


@pytest.fixture(
    params=[
        pytest.param("sqlite", marks=pytest.mark.unit),
        pytest.param("postgresql", marks=pytest.mark.integration),
    ]
)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    with empty_postgresql() as url:
        yield url


@contextmanager
def empty_postgresql() -> Iterator[str]:
    """URL of a new PostgreSQL database, dropped at the end. Without a server the test is skipped, in CI it fails."""
    name = f"alignloop_{uuid4().hex[:12]}"
    try:
        server = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL server at {POSTGRES}: {str(error).splitlines()[0]}")
    with server:
        server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield f"{POSTGRES.rsplit('/', 1)[0]}/{name}"
        finally:
            server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _copied(template: Path, folder: Path) -> Iterator[Store]:
    shutil.copy(template, folder / "service.db")
    store = Store(f"sqlite:///{folder}/service.db")
    yield store
    store.close()


def _migrated(url: str) -> Iterator[Store]:
    store = Store(url)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def local_store(tmp_path: Path, empty_sqlite: Path) -> Iterator[Store]:
    """The SQLite store behind `app_client`."""
    yield from _copied(empty_sqlite, tmp_path)


@pytest.fixture
def app_client(tmp_path: Path, local_store: Store) -> Iterator[Callable[..., TestClient]]:
    """Builds in-process gateways over `local_store`: `app_client(open=True)` and so on. No engine answers there."""
    clients: list[TestClient] = []

    def build(**settings: object) -> TestClient:
        values = {"database": f"sqlite:///{tmp_path}/service.db", "checkpoints": tmp_path / "checkpoints", **settings}
        app = create_app(Settings.model_validate(values))
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        clients.append(client)
        client.__enter__()
        return client

    yield build
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def make_key(local_store: Store) -> Callable[..., dict[str, str]]:
    """Adds a key to `local_store`, valid or expired, and returns its Authorization header."""

    def make(*scopes: str, expired: bool = False) -> dict[str, str]:
        with local_store.session() as session:
            key, secret = add_key(session, "test", scopes)
            if expired:
                key.expires = now()
            return {"Authorization": f"Bearer {secret}"}

    return make


def engine_row(checkpoint: str, url: str = "http://127.0.0.1:9", kind: str = "policy", state: str = "ready") -> Engine:
    """A row of the endpoint table."""
    manifest = {
        "stage": "sft",
        "created": "2026-01-31T10:15:02+00:00",
        "context": 256,
        "generation": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 32},
        "reward_offset": None if kind == "policy" else 0.5,
        "stop_ids": [0, 7],
        "special": ["<|end|>", "<|user|>"],
        "path": "/nowhere",
    }
    return Engine(checkpoint=checkpoint, kind=kind, url=url, state=state, supervisor="here:1", manifest=manifest)


@pytest.fixture
def add_engine(local_store: Store) -> Callable[..., None]:
    """Puts a row into the endpoint table of `local_store`."""

    def add(checkpoint: str, **fields: str) -> None:
        with local_store.session() as session:
            session.add(engine_row(checkpoint, **fields))

    return add


@pytest.fixture(scope="session")
def arena(gateway: Running, tiny_store: Path) -> Iterator[Running]:
    """The gateway with a second policy as policy/candidate, so that people compare two checkpoints."""
    from tests.support.tiny_models import publish_tiny

    candidate = publish_tiny(tiny_store, seed=5).id
    with gateway.client() as admin:
        assert admin.post("/admin/engines", json={"checkpoint": candidate}).status_code == 202
        gateway.wait_for(lambda: candidate in {model["id"] for model in admin.get("/v1/models").json()["data"]})
        assert admin.put("/admin/aliases/policy/candidate", json={"checkpoint": candidate}).status_code == 200
        gateway.wait_for(lambda: "policy/candidate" in {m["id"] for m in admin.get("/v1/models").json()["data"]})
        yield gateway
        with gateway.store.session() as session:
            session.execute(delete(Alias).where(Alias.name == "policy/candidate"))
        admin.delete(f"/admin/engines/{candidate}")
