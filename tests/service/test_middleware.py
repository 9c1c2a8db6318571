"""What surrounds every request: hosts, origins, CORS, sizes, the order of checks, headers, the cookie."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from service.labelers import add_labeler
from service.settings import Settings
from service.store.database import Store
from service.store.models import Labeler, LabelerSession, now

pytestmark = pytest.mark.unit
Build = Callable[..., TestClient]
MakeKey = Callable[..., dict[str, str]]
OTHER = "https://other.example"


def chunks(size: int) -> Iterator[bytes]:
    """A body that announces no length."""
    yield b"{"
    for _ in range(size // 1000 + 1):
        yield b" " * 1000
    yield b"}"


# Hosts and origins.


@pytest.mark.parametrize(
    "host, path, status",
    [
        ("evil.example", "/metrics", 403),
        ("10.0.0.7:8000", "/metrics", 200),
        ("[fd00::2]:8000", "/metrics", 200),
        ("10.0.0.7:8000", "/v1/models", 403),
        ("evil.example", "/health/live", 200),
        ("LAB.example:443", "/v1/models", 401),
        ("public.example", "/v1/models", 401),
        ("[FD00::2]:8000", "/v1/models", 401),
        ("fd00::2", "/v1/models", 403),
        ("", "/v1/models", 403),
    ],
)
def test_hosts(app_client: Build, host: str, path: str, status: int) -> None:
    client = app_client(host="fd00::2", allowed_hosts=["lab.example"], public_url="https://public.example/")
    assert client.get(path, headers={"Host": host}).status_code == status


def test_origins_are_checked_for_cookies_and_open_mode_and_not_for_keys(app_client: Build, make_key: MakeKey) -> None:
    client = app_client(open=True, public_url="https://public.example", allowed_origins=[OTHER])
    body = {"model": "none", "prompt": "x"}
    for origin in (
        "app://obsidian.md", "http://evil.example", "null", "", "http://[", "http://[::1", "http://[x]:8000", "//",
        "http://127.0.0.1:8000.evil.example", "http://127.0.0.1:8000@evil.example", "http://evil.example/127.0.0.1:8000",
        "http://127.0.0.1:8000/", "ftp://127.0.0.1:8000", "http://127.0.0.1:99999",
    ):  # fmt: skip
        assert client.post("/v1/completions", json=body, headers={"Origin": origin}).status_code == 403, origin
        keyed = {"Origin": origin, **make_key("generate")}
        assert client.post("/v1/completions", json=body, headers=keyed).status_code == 404  # no such model
        basic = {"Origin": origin, "Authorization": "Basic eDp4"}
        assert client.post("/v1/completions", json=body, headers=basic).status_code == 403
    for origin in ("https://public.example", OTHER, "http://127.0.0.1:8000"):
        assert client.post("/v1/completions", json=body, headers={"Origin": origin}).status_code == 404


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/score", "/tokenize"])
def test_pages_of_listed_origins_may_call_the_api(app_client: Build, make_key: MakeKey, path: str) -> None:
    client = app_client(allowed_origins=[OTHER])
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    allowed = client.options(path, headers={"Origin": OTHER, **asks})
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == OTHER
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert allowed.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "access-control-allow-credentials" not in allowed.headers
    assert "Origin" in allowed.headers["vary"]
    # Errors can be read too, or the page would only learn that something failed.
    refused = client.get("/v1/models", headers={"Origin": OTHER})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, OTHER)
    keyed = client.get("/v1/models", headers={"Origin": OTHER, **make_key("generate")})
    assert (keyed.status_code, keyed.headers["access-control-allow-origin"]) == (200, OTHER)
    for origin in ("https://evil.example", f"{OTHER}.evil.example", "null", ""):
        stranger = client.options(path, headers={"Origin": origin, **asks})
        assert stranger.status_code != 204
        assert "access-control-allow-origin" not in stranger.headers


def test_pages_and_administration_are_shared_with_nobody(app_client: Build, make_key: MakeKey) -> None:
    client = app_client(allowed_origins=[OTHER])
    for path in ("/admin/keys", "/api/export", "/api/session", "/compare"):
        headers = {"Origin": OTHER, "Access-Control-Request-Method": "GET", **make_key("admin")}
        for answer in (client.options(path, headers=headers), client.get(path, headers=headers)):
            assert "access-control-allow-origin" not in answer.headers


# Sizes, and what comes before the body.


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/score", "/admin/prompts", "/admin/keys", "/api/session", "/tokenize"]
)
def test_a_body_that_is_too_large_is_413_on_every_route(app_client: Build, make_key: MakeKey, path: str) -> None:
    client = app_client(max_body_bytes=5000)
    headers = {"Content-Type": "application/json", **make_key("admin")}
    for content in (chunks(9000), b" " * 9000):
        answer = client.post(path, content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.post(path, content=chunks(1000), headers=headers).status_code not in (413, 500)


@pytest.mark.parametrize(
    "path, status",
    [
        ("/v1/chat/completions", 401),
        ("/score", 401),
        ("/admin/prompts", 401),
        ("/api/tasks/next", 401),
        ("/api/tasks/x/answer", 401),
        ("/sign-out", 401),
        ("/nowhere", 404),
    ],
)
def test_who_has_no_key_or_session_is_refused_before_the_body_is_read(
    app_client: Build, path: str, status: int
) -> None:
    parts: list[int] = []

    def body() -> Iterator[bytes]:
        for number in range(50):
            parts.append(number)
            yield b"x" * 1000

    # A real connection would stop here; the test client reads it all, but the application must not parse it.
    answer = app_client().post(path, content=body(), headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    broken = app_client().post(path, content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == status, "the body was parsed first"


def test_a_key_without_the_scope_is_refused_before_the_body_is_read(app_client: Build, make_key: MakeKey) -> None:
    headers = {"Content-Type": "application/json", **make_key("score")}
    assert app_client().post("/admin/keys", content=b"{", headers=headers).status_code == 403
    assert app_client().post("/score", content=b"{", headers=headers).status_code == 400


# Headers.


def test_a_failure_of_the_service_has_the_security_headers_and_openais_shape(
    app_client: Build, make_key: MakeKey, caplog: pytest.LogCaptureFixture
) -> None:
    client = app_client()

    @client.app.get("/broken")  # type: ignore[attr-defined]
    async def broken() -> None:
        raise RuntimeError("a bug")

    answer = client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "a bug" in caplog.text
    assert "a bug" not in answer.text


def test_browsers_ask_whether_scripts_changed(app_client: Build) -> None:
    client = app_client()
    first = client.get("/static/desk.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/static/desk.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


# The cookie.


@pytest.mark.parametrize(
    "address, settings, name, is_secure",
    [
        ("http://127.0.0.1:8000", {}, "alignloop_session_8000", False),
        ("http://127.0.0.1:9000", {}, "alignloop_session_9000", False),
        ("http://192.168.1.5:8000", {"host": "192.168.1.5"}, "alignloop_session_8000", False),
        ("https://127.0.0.1", {}, "__Host-alignloop_session", True),
        ("http://lab.example", {"public_url": "https://lab.example"}, "__Host-alignloop_session", True),
        ("https://lab.example:8443", {"public_url": "https://lab.example:8443"}, "__Host-alignloop_session_8443", True),
        ("https://lab.example", {"public_url": "http://lab.example"}, "alignloop_session", False),
    ],
)
def test_the_cookie_goes_by_the_scheme_and_port_of_the_browser(
    app_client: Build, local_store: Store, address: str, settings: dict[str, str], name: str, is_secure: bool
) -> None:
    with local_store.session() as session:
        _, token = add_labeler(session, "Ada")
    client = app_client(**settings)
    answer = client.post(f"{address}/api/session", json={"token": token})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{name}=")
    assert ("; Secure" in cookie) is is_secure
    assert "; Path=/" in cookie
    assert "Domain" not in cookie
    secret = cookie.split(";")[0].split("=", 1)[1]
    assert client.get(f"{address}/api/session", headers={"Cookie": f"{name}={secret}"}).status_code == 200
    client.cookies.clear()
    assert client.get(f"{address}/api/session", headers={"Cookie": f"alignloop={secret}"}).status_code == 401


def test_in_open_mode_other_sites_add_no_labelers_and_old_visitors_are_forgotten(
    app_client: Build, local_store: Store
) -> None:
    client = app_client(open=True)
    for dest in ("image", "script", "iframe", "empty"):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": dest}
        for path in ("/compare", "/api/session", "/results"):
            assert client.get(path, headers=headers, follow_redirects=False).status_code in (303, 401)
    with local_store.session() as session:
        assert session.scalar(select(func.count()).select_from(Labeler)) == 0
    for _ in range(3):
        client.cookies.clear()
        assert (
            client.get("/compare", headers={"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}).status_code == 200
        )
    with local_store.session() as session:
        add_labeler(session, "Ada")
        for row in session.scalars(select(LabelerSession)):
            row.expires = now()
    client.cookies.clear()
    assert client.get("/compare").status_code == 200
    with local_store.session() as session:
        assert session.scalar(select(func.count()).select_from(Labeler)) == 2  # Ada and the new visitor
        assert session.scalar(select(func.count()).select_from(LabelerSession)) == 1


@pytest.mark.parametrize(
    "values, message",
    [
        ({"public_url": "lab.example"}, "scheme and host"),
        ({"public_url": "https://lab.example/alignloop/"}, "without a path"),
        ({"public_url": "javascript:alert(1)"}, "scheme and host"),
        ({"trusted_proxies": ["proxy.example"]}, "address or network"),
    ],
)
def test_wrong_addresses_in_the_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings.model_validate(values)


@pytest.mark.parametrize(
    "values, url",
    [
        ({"host": "fd00::2", "port": 9126}, "http://[fd00::2]:9126"),
        ({"host": "[::1]"}, "http://[::1]:8000"),
        ({"host": "127.0.0.1"}, "http://127.0.0.1:8000"),
        ({"public_url": "https://Lab.example/"}, "https://lab.example"),
    ],
)
def test_the_address_that_is_printed_is_one(values: dict[str, object], url: str) -> None:
    assert Settings.model_validate(values).url == url
