"""Who gets in: keys, scopes, hosts, origins, sessions, and the access level of every route."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service import auth, known_keys
from service.app import create_app
from service.keys import digest
from service.labelers import add_labeler
from service.settings import Settings
from service.store.database import Store
from service.store.models import Key, now
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
Build = Callable[..., TestClient]
MakeKey = Callable[..., dict[str, str]]


def test_every_route_declares_its_access(tmp_path: object) -> None:
    app = create_app(Settings(database=f"sqlite:///{tmp_path}/x.db"))
    assert auth.undeclared(app) == []

    @app.get("/forgotten")
    def forgotten() -> None: ...

    assert auth.undeclared(app) == ["/forgotten"]


def test_access_levels_are_those_of_the_design(tmp_path: object) -> None:
    app = create_app(Settings(database=f"sqlite:///{tmp_path}/x.db"))
    levels = {getattr(route, "path", ""): auth.access_of(route) for route in app.routes}
    assert levels["/v1/completions"] == levels["/v1/chat/completions"] == levels["/v1/models"] == "key:generate"
    assert levels["/score"] == levels["/v1/score"] == "key:score"
    assert levels["/compare"] == levels["/rank"] == levels["/api/tasks/next"] == "labeler"
    assert levels["/api/export"] == "key:export"
    assert {level for path, level in levels.items() if path.startswith("/admin")} == {"key:admin"}
    opened = {path for path, level in levels.items() if level == "open"}
    assert opened <= {
        "/health/live",
        "/health/ready",
        "/metrics",
        "/static",
        "/docs",
        "/openapi.json",
        "/sign-in",
        "/api/session",
    }


WRONG_KEYS = [
    "", "Bearer", "Bearer ", "Bearer wrong", "bearer al-" + "x" * 43, "Basic eDp4", "Token al-x", "Bearer a b",
    "Bearer \xff", "Bearer " + "x" * 50_000, "Bearer null", "Bearer\tx", "al-x", "Bearer ' or 1=1 --",
]  # fmt: skip


def test_every_route_refuses_who_may_not(app_client: Build, make_key: MakeKey) -> None:
    """Without a key, with one that is wrong, expired or revoked, or without the scope; without a session."""
    client = app_client()
    app = client.app
    assert isinstance(app, FastAPI)
    expired, scopes = make_key("admin", expired=True), ("generate", "score", "export", "admin")
    refused = 0
    for route in app.routes:
        level = auth.access_of(route) or ""
        path = getattr(route, "path", "").replace("{alias:path}", "policy/x")
        path = re.sub(r"\{(?:model|name):path\}", "x", path)
        path = re.sub(r"\{\w+\}", "x", path)
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            if level.startswith("key:"):
                others = [scope for scope in scopes if scope not in (level.removeprefix("key:"), "admin")]
                tries = [({"Authorization": key.encode("latin-1")}, 401) for key in WRONG_KEYS]
                tries += [({}, 401), (expired, 401), *((make_key(other), 403) for other in others)]
            elif level == "labeler":
                page = path in ("/", "/compare", "/rank", "/playground", "/results", "/trace/x")
                cookies = ["x", "alignloop_session_8000=x", "alignloop_session_8000=\xff", "=", ";;;"]
                tries = [({}, 303 if page else 401), (make_key("admin"), 303 if page else 401)]
                tries += [({"Cookie": cookie.encode("latin-1")}, 303 if page else 401) for cookie in cookies]
            else:
                continue
            for headers, status in tries:
                answer = client.request(method, path, headers=headers, follow_redirects=False)
                assert answer.status_code == status, (method, path, headers, answer.text[:200])
                if status in (401, 403) and method != "HEAD":
                    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
                refused += 1
    assert refused > 500


def test_keys_and_scopes(app_client: Build, make_key: MakeKey) -> None:
    client = app_client()
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/v1/models", headers=make_key("generate")).status_code == 200
    assert client.get("/v1/models", headers=make_key("score")).status_code == 403
    assert client.get("/v1/models", headers=make_key("eval")).status_code == 200
    assert client.get("/admin/keys", headers=make_key("eval")).status_code == 403
    assert client.get("/admin/keys", headers=make_key("admin")).status_code == 200
    assert client.get("/v1/models", headers=make_key("generate", expired=True)).status_code == 401


def test_only_known_checkpoints_of_the_right_kind_are_promoted(
    app_client: Build, make_key: MakeKey, add_engine: Callable[..., None]
) -> None:
    add_engine("sft-1")
    add_engine("reward-1", kind="reward")
    client, headers = app_client(), make_key("admin")

    def put(alias: str, checkpoint: str) -> int:
        return client.put(f"/admin/aliases/{alias}", json={"checkpoint": checkpoint}, headers=headers).status_code

    assert put("policy/production", "reward-1") == 400
    assert put("policy/production", "no-such") == put("policy/production", "../etc") == 404
    assert client.post("/admin/engines", json={"checkpoint": "no-such"}, headers=headers).status_code == 404
    assert put("policy/production", "sft-1") == put("reward/production", "reward-1") == 200


def test_a_revoked_key_stops_working(
    app_client: Build, make_key: MakeKey, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, header = app_client(), make_key("generate")
    assert client.get("/v1/models", headers=header).status_code == 200
    with local_store.session() as session:
        key = session.query(Key).one()
        assert key.secret_hash == digest(header["Authorization"].split()[1])
        key.revoked = now()
    monkeypatch.setattr(known_keys, "FRESH_SECONDS", 0.0)
    assert client.get("/v1/models", headers=header).status_code == 401


def test_a_key_in_use_is_read_again_while_requests_go_on(
    make_key: MakeKey, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(known_keys, "AHEAD_SECONDS", 0.0)
    secret = make_key("generate")["Authorization"].split()[1]

    async def use() -> None:
        assert await keys.find(secret) is not None
        with local_store.session() as session:
            session.query(Key).one().revoked = now()
        assert await keys.find(secret) is not None  # nobody waits for the store
        deadline = time.monotonic() + 30
        while await keys.find(secret) is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    keys = known_keys.KnownKeys(local_store)
    asyncio.run(use())
    keys.close()


def test_a_lent_key_works_in_its_process_alone(app_client: Build, local_store: Store) -> None:
    one, other = app_client(open=True), app_client(open=True)
    app = one.app
    assert isinstance(app, FastAPI)
    header = {"Authorization": f"Bearer {app.state.keys.lend('open mode', 'admin')}"}
    assert one.get("/admin/keys", headers=header).json()["data"] == []
    assert other.get("/admin/keys", headers=header).status_code == 401
    with local_store.session() as session:
        assert session.query(Key).all() == []


def test_open_mode_opens_generation_and_pages_only(app_client: Build) -> None:
    client = app_client(open=True)
    assert client.get("/v1/models").status_code == 200
    assert client.get("/api/session").status_code == 200
    assert client.get("/admin/keys").status_code == 401
    assert client.get("/api/export").status_code == 401


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 401),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost:1234"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 401),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 401),
    ],
)
def test_host_and_origin_go_by_allow_list(app_client: Build, headers: dict[str, str], status: int) -> None:
    answer = app_client().post("/v1/completions", json={}, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_security_headers_are_on_every_answer(app_client: Build) -> None:
    client = app_client()
    for path in ("/health/live", "/nowhere", "/v1/models", "/sign-in"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe-inline" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_signing_in_and_out(app_client: Build, local_store: Store) -> None:
    with local_store.session() as session:
        labeler, token = add_labeler(session, "Ada", "training")
        pseudonym = labeler.pseudonym
    client = app_client()
    assert client.get("/api/session").status_code == 401
    assert client.post("/api/session", json={"token": "guess"}).status_code == 401
    signed = client.post("/api/session", json={"token": token})
    cookie = signed.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert client.get("/api/session").json() == {
        "labeler": pseudonym,
        "group": "training",
        "csrf": signed.json()["csrf"],
    }
    assert client.post("/sign-out").status_code == 403
    assert client.post("/sign-out", headers={"X-CSRF-Token": "guess"}).status_code == 403
    out = client.post("/sign-out", headers={"X-CSRF-Token": signed.json()["csrf"]}, follow_redirects=False)
    assert out.status_code == 303
    client.cookies.set(*cookie.split(";")[0].split("=", 1))
    assert client.get("/api/session").status_code == 401


def test_a_disabled_labeler_is_out_at_once(app_client: Build, local_store: Store, make_key: MakeKey) -> None:
    with local_store.session() as session:
        labeler, token = add_labeler(session, "Ada")
        id_ = labeler.id
    client = app_client()
    client.post("/api/session", json={"token": token})
    assert client.get("/api/session").status_code == 200
    assert client.delete(f"/admin/labelers/{id_}", headers=make_key("admin")).status_code == 200
    assert client.get("/api/session").status_code == 401


def test_an_open_mode_browser_keeps_its_pseudonym(app_client: Build) -> None:
    client = app_client(open=True)
    first = client.get("/api/session").json()
    assert first["labeler"].startswith("labeler-")
    assert client.get("/api/session").json() == first
    client.cookies.clear()
    assert client.get("/api/session").json()["labeler"] != first["labeler"]


def test_listening_elsewhere_needs_a_key() -> None:
    outside = Settings(host="0.0.0.0")
    with pytest.raises(UserError, match="needs a key"):
        outside.check(has_keys=False)
    outside.check(has_keys=True)
    with pytest.raises(UserError, match="loopback"):
        Settings(host="192.168.1.5", open=True).check(has_keys=True)
    Settings(host="::1", open=True).check(has_keys=False)
    Settings(host="localhost", open=True).check(has_keys=False)
