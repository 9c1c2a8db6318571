"""Clients that speak bytes instead of HTTP, or stop in the middle: they are refused, and hold up nobody."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.routes import forwarding
from tests.support import stub_engine, waiting
from tests.support.stub_engine import StubEngine, send_pieces, stream_of

wait_until = partial(waiting.wait_until, seconds=15)

pytestmark = pytest.mark.unit
BODY = json.dumps({"model": "sft-1", "messages": [{"role": "user", "content": "hello"}]}).encode()
STREAMED = json.dumps({**json.loads(BODY), "stream": True}).encode()
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
LONG = stream_of({"model": "sft-1"}, ["a" * 20_000]) * 2000  # more than all buffers between engine and client hold
GET = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with stub_engine.stub_engine() as running:
        yield running


@pytest.fixture
def app(app_client: Callable[..., TestClient], add_engine: Callable[..., None], engine: StubEngine) -> FastAPI:
    add_engine("sft-1", url=engine.url)
    app = app_client(open=True, max_body_bytes=5000).app
    assert isinstance(app, FastAPI)
    return app


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    with stub_engine.served(app) as address:
        yield address


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=5)


def said(url: str, *pieces: bytes, end: bool = True) -> bytes:
    """All that the gateway answers to these bytes, until it closes or says nothing more."""
    with connected(url) as client:
        for piece in pieces:
            client.sendall(piece)
        if end:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        client.settimeout(2)
        try:
            while piece := client.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
        return answer


ODD: dict[str, tuple[bytes, ...]] = {
    "nothing": (b"",),
    "no HTTP": (b"hello\r\n\r\n",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),),
    "an old version": (b"GET /\r\n",),
    "another version": (b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",),
    "an unknown method": (b"BREW /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
    "a method without end": (b"G" * 100_000,),
    "a path without end": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
    "a null in the path": (b"GET /v1/\0models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
    "high bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
    "a whole address": (b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
    "another host": (b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n",),
    "two hosts": (b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nHost: 127.0.0.1\r\n\r\n",),
    "a host of brackets": (b"GET /compare HTTP/1.1\r\nHost: [::1\r\n\r\n",),
    "a host with an odd port": (b"GET /compare HTTP/1.1\r\nHost: 127.0.0.1:\xb2\r\n\r\n",),
    "a null in a header": (GET + b"X: a\0b\r\n\r\n",),
    "a folded header": (GET + b"X: a\r\n b\r\n\r\n",),
    "headers without end": (GET, *[b"X: " + b"y" * 1000 + b"\r\n"] * 500),
    "a header without a name": (GET + b": x\r\n\r\n",),
    "a space before the colon": (GET + b"Content-Length : 5\r\n\r\nhello",),
    "a length that is none": (CHAT + b"Content-Length: many\r\n\r\n" + BODY,),
    "a negative length": (CHAT + b"Content-Length: -5\r\n\r\n" + BODY,),
    "a length beyond all": (CHAT + b"Content-Length: " + b"9" * 50 + b"\r\n\r\n" + BODY,),
    "an odd digit as length": (CHAT + b"Content-Length: \xb2\r\n\r\n" + BODY,),
    "two lengths": (CHAT + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\n" + BODY,),
    "a length and chunks": (CHAT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
    "chunks that are none": (CHAT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY,),
    "a chunk of negative size": (CHAT + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + BODY,),
    "an unknown encoding": (CHAT + b"Transfer-Encoding: rot13\r\n\r\n" + BODY,),
    "a body that is too large": (CHAT + b"Content-Length: 99999\r\n\r\n" + b" " * 99999,),
    "half a body": (CHAT + b"Content-Length: 4000\r\n\r\n" + BODY,),
    "upgrades to nothing": (GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",),
    "expects": (CHAT + b"Expect: 200-maybe\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,),
    "a line in a cookie": (b"GET /compare HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: alignloop_session=a%0d%0ab\r\n\r\n",),
    "lines in the sign-in's target": (
        b"GET /sign-in?next=/a%0d%0aSet-Cookie:%20evil=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ),
    "lines in the page's path": (b"GET /compare%0d%0aevil:%201 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
}  # fmt: skip


def test_bytes_that_are_no_request(url: str, engine: StubEngine) -> None:
    """Each is answered with 4xx or closed; none reaches an engine or the next request of the connection."""
    for name, pieces in ODD.items():
        try:
            answer = said(url, *pieces)
        except OSError:  # closed while it was still being sent; ENOTCONN is no ConnectionError
            continue
        statuses = [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        assert all(status < 500 for status in statuses), (name, answer[:300])
        assert b"evil=1" not in answer.split(b"\r\n\r\n")[0], name
        assert b"\nevil" not in answer.split(b"\r\n\r\n")[0].lower(), name
    assert all(body is not None for _, body in engine.seen)
    assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200


def quiet(app: FastAPI, engine: StubEngine) -> bool:
    return engine.open == 0 and app.state.endpoints.running.total() == 0


def test_clients_that_send_slowly_hold_up_nobody(url: str, app: FastAPI, engine: StubEngine) -> None:
    slow = [connected(url) for _ in range(50)]
    try:
        for number, client in enumerate(slow):
            head = CHAT + b"Content-Length: %d\r\n\r\n" % len(BODY)
            client.sendall(head[: number * 4] if number % 2 else head + BODY[: number // 2])
        began = time.monotonic()
        answer = httpx.post(f"{url}/v1/chat/completions", content=BODY, timeout=10, trust_env=False)
        assert (answer.status_code, time.monotonic() - began < 5) == (200, True)
        assert app.state.endpoints.running.total() == 0, "half a request reached an engine"
    finally:
        for client in slow:
            client.close()
    wait_until(lambda: quiet(app, engine))


@pytest.mark.parametrize("how", ["closes", "resets", "reads nothing, then closes"])
def test_clients_that_leave_a_stream_cancel_the_work(url: str, app: FastAPI, engine: StubEngine, how: str) -> None:
    async def long(request: Any, _: Any) -> Any:
        return await send_pieces(request, LONG, pause=0.01)

    engine.answer = long
    clients = [connected(url) for _ in range(10)]
    for client in clients:
        if how == "reads nothing, then closes":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(CHAT + b"Content-Length: %d\r\n\r\n" % len(STREAMED) + STREAMED)
    wait_until(lambda: engine.open == 10)
    for client in clients:
        if how == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    wait_until(lambda: quiet(app, engine))
    assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200


def test_a_client_that_stays_and_reads_nothing_is_let_go(
    url: str, app: FastAPI, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def long(request: Any, _: Any) -> Any:
        return await send_pieces(request, LONG)

    monkeypatch.setattr(forwarding, "CLIENT_SECONDS", 1.0)
    engine.answer = long
    with connected(url) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(CHAT + b"Content-Length: %d\r\n\r\n" % len(STREAMED) + STREAMED)
        wait_until(lambda: engine.open == 1)
        wait_until(lambda: quiet(app, engine))
        assert engine.cancelled == 1
