"""`python -m service serve` as a process of its own, without engines."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aiohttp import web

from service.labelers import add_labeler
from service.store.database import Store
from service.store.models import now
from tests.service.conftest import engine_row
from tests.support.live_service import free_port
from tests.support.stub_engine import chunk, send_pieces, stub_engine

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("proxy, is_secure", [("127.0.0.1", True), ("192.0.2.1", False)])
def test_only_a_trusted_proxy_says_that_the_browser_speaks_https(
    tmp_path: Path, local_store: Store, proxy: str, is_secure: bool
) -> None:
    with local_store.session() as session:
        _, token = add_labeler(session, "Ada")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service", "serve", "--home", str(tmp_path), "--port", str(port)]
    environment = os.environ | {"ALIGNLOOP_TRUSTED_PROXIES": json.dumps([proxy])}
    served = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=url, trust_env=False) as client:
            wait_live(client, served)
            headers = {"X-Forwarded-Proto": "https"}
            answer = client.post("/api/session", json={"token": token}, headers=headers)
            assert answer.status_code == 200
            cookie = answer.headers["set-cookie"]
            assert ("; Secure" in cookie) is is_secure
            assert cookie.startswith("__Host-") is is_secure
            assert client.get("/sign-in").status_code == 200
            # Logs hold what people wrote: what the service makes is its own user's alone.
            assert "Umask:\t0077\n" in Path(f"/proc/{served.pid}/status").read_text()
        served.send_signal(signal.SIGTERM)
        _, printed = served.communicate(timeout=30)
    finally:
        served.kill()
        served.wait()
    assert served.returncode == 0, printed
    assert f"gateway at {url} " in printed


@pytest.mark.parametrize("drain", ["0", "0.5"])
def test_the_service_ends_though_a_stream_goes_on(tmp_path: Path, local_store: Store, drain: str) -> None:
    """Less than a second for running requests is less than a second, and not without end."""

    async def endless(request: web.Request, _: Any) -> web.StreamResponse:
        return await send_pieces(request, [chunk("sft-1", "on")] * 100_000, pause=0.05)

    with stub_engine(endless) as engine:
        with local_store.session() as session:
            row = engine_row("sft-1", engine.url)
            row.heartbeat = now() + timedelta(hours=1)  # no supervisor runs
            session.add(row)
        port = free_port()
        command = [sys.executable, "-m", "service", "serve", "--home", str(tmp_path), "--port", str(port), "--open"]
        environment = os.environ | {"ALIGNLOOP_DRAIN_SECONDS": drain}
        served = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                wait_live(client, served)
                body = {"model": "sft-1", "messages": [{"role": "user", "content": "go"}], "stream": True}
                with client.stream("POST", "/v1/chat/completions", json=body) as reply:
                    pieces = reply.iter_raw()
                    next(pieces)
                    served.send_signal(signal.SIGTERM)
                    with suppress(httpx.HTTPError):
                        list(pieces)
            _, printed = served.communicate(timeout=30)
        finally:
            served.kill()
            served.wait()
        assert served.returncode == 0, printed


def wait_live(client: httpx.Client, served: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and served.poll() is None:
        try:
            client.get("/health/live").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the gateway is not live")


@pytest.mark.parametrize("command", ["serve", "engines"])
def test_a_service_that_is_ended_while_it_starts_ends_well(tmp_path: Path, command: str) -> None:
    database = tmp_path / "service.db"
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")  # its start waits for this: it wants to make its tables
        started = subprocess.Popen(
            [sys.executable, "-m", "service", command, "--home", str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        try:
            deadline = time.monotonic() + 60
            while str(database) not in {file.path for file in psutil.Process(started.pid).open_files()}:
                assert time.monotonic() < deadline
                assert started.poll() is None
                time.sleep(0.05)
            started.send_signal(signal.SIGTERM)
            other.execute("ROLLBACK")
            _, printed = started.communicate(timeout=60)
        finally:
            started.kill()
            started.wait()
    other.close()
    assert started.returncode == 0, printed
    assert printed == ""
