"""docs/how-to/operate.md: what a gateway does while its store is upgraded under it, and when it is told to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import text

from tests.support.fixed_engine import fixed_engine
from tests.support.fixed_gateway import NAME, gateway_over
from tests.support.live_service import ROOT, Running

pytestmark = pytest.mark.integration
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20, "stream": True}


@pytest.fixture
def service() -> Iterator[Running]:
    with fixed_engine(0.1, 0.1) as url, gateway_over(url) as running:
        yield running


def answers(service: Running) -> bool:
    with service.client() as client:
        return "[DONE]" in client.post("/v1/chat/completions", json=CHAT).text


def test_an_old_gateway_goes_on_over_a_newer_store_and_cannot_be_started_again(service: Running) -> None:
    with service.client() as client:
        token = client.post("/admin/labelers", json={"name": "Ada"}).json()["token"]
    with service.store.session() as session:
        session.execute(text("alter table answers add column later text"))
        session.execute(text("update alembic_version set version_num = 'zzzz'"))
    assert answers(service)
    signed = httpx.post(f"{service.url}/api/session", json={"token": token}, trust_env=False)
    assert signed.status_code == 200
    with service.client() as client:
        assert client.post("/admin/prompts", json={"prompts": [{"prompt": "one"}]}).status_code == 200
    for words in (["serve", "--port", "1"], ["labelers", "list"]):
        done = subprocess.run(
            [sys.executable, "-m", "service", *words, "--home", str(service.home)],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2
        assert "was written by a newer version" in done.stderr


def test_a_gateway_that_is_told_to_end_finishes_its_streams(service: Running) -> None:
    words: list[str] = []

    def read() -> None:
        with service.client() as client, client.stream("POST", "/v1/chat/completions", json=CHAT) as reply:
            words.extend(line for line in reply.iter_lines() if line)

    reading = threading.Thread(target=read)
    reading.start()
    service.wait_for(lambda: len(words) >= 3 or not reading.is_alive(), 30)
    service.process.send_signal(signal.SIGTERM)
    reading.join(30)
    assert words[-1] == "data: [DONE]"
    contents = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"] for line in words[:-1]]
    assert len(contents) == 20
    assert service.process.wait(30) == 0
