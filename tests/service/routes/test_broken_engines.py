"""Engines that break the protocol itself: every answer is an error in OpenAI's shape, and nothing is left running."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.store.database import Store
from service.store.models import now
from tests.service.conftest import engine_row
from tests.support.raw_engine import CUT, HANG, RawEngine, raw_engine
from tests.support.stub_engine import chat_answer, chunk, served
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.unit
OK = b"HTTP/1.1 200 OK\r\n"
EVENTS = OK + b"content-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
JSON = json.dumps(chat_answer({"model": "sft-1"})).encode()
EVENT = chunk("sft-1", "a")


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


BROKEN: dict[str, tuple[object, ...]] = {
    "closes at once": (),
    "resets at once": (CUT,),
    "is no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n",),
    "half a status line": (b"HTTP/1.1 20", CUT),
    "a status that is none": (b"HTTP/1.1 abc OK\r\n\r\n",),
    "a status beyond all": (b"HTTP/1.1 99999 OK\r\ncontent-length: 0\r\n\r\n",),
    "half its headers": (OK + b"content-type: application/j", CUT),
    "a header without a name": (OK + b": x\r\ncontent-length: 0\r\n\r\n",),
    "a header with a null": (OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",),
    "a header without end": (OK + b"x: " + b"a" * 100_000 + b"\r\n\r\n",),
    "headers without end": (OK, *[b"x: y\r\n" * 5000] * 10, CUT),
    "a length that is none": (OK + b"content-length: many\r\n\r\n" + JSON,),
    "a negative length": (OK + b"content-length: -1\r\n\r\n" + JSON,),
    "less than its length": (OK + b"content-length: 99999\r\n\r\n" + JSON,),
    "less than its length, reset": (OK + b"content-length: 99999\r\n\r\n" + JSON, CUT),
    "a chunk that is none": (OK + CHUNKED + b"xyz\r\n" + JSON,),
    "half a chunk": (OK + CHUNKED + b"ff\r\n{", CUT),
    "chunks without end": (OK + CHUNKED + chunked(b'{"a":'), CUT),
    "compressed, though asked not to": (OK + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\0\0",),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\n\r\n",),
    "switches protocols": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", CUT),
    "continues for ever": (*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 3, CUT),
    "hangs before it answers": (HANG,),
    "hangs after its headers": (OK + b"content-length: 99\r\n\r\n", HANG),
    "hangs in the middle": (OK + CHUNKED + chunked(b'{"id": '), HANG),
    "an error that is no JSON": (b"HTTP/1.1 500 Oops\r\ncontent-length: 6\r\n\r\n<html>",),
    "an error cut in the middle": (b"HTTP/1.1 400 Bad\r\ncontent-length: 99\r\n\r\n{", CUT),
    "an error that hangs": (b"HTTP/1.1 400 Bad\r\ncontent-length: 99\r\n\r\n{", HANG),
    "an error with half a character": (
        b'HTTP/1.1 400 Bad\r\ncontent-length: 41\r\n\r\n{"error": {"message": "a \\ud83d b     "}}\n',
    ),
    "a refusal of numbers": (b'HTTP/1.1 400 Bad\r\ncontent-length: 28\r\n\r\n{"error": {"message": 12345}}'[:-1],),
}  # fmt: skip
# Streams that begin well.
CUT_STREAMS: dict[str, tuple[object, ...]] = {
    "no event": (EVENTS + CHUNKED + b"0\r\n\r\n",),
    "an event, no end": (EVENTS + CHUNKED + chunked(EVENT) + b"0\r\n\r\n",),
    "an event, reset": (EVENTS + CHUNKED + chunked(EVENT), CUT),
    "half an event, reset": (EVENTS + CHUNKED + chunked(EVENT + EVENT[:20]), CUT),
    "half an event, end": (EVENTS + CHUNKED + chunked(EVENT + EVENT[:20]) + b"0\r\n\r\n",),
    "an event, then a chunk that is none": (EVENTS + CHUNKED + chunked(EVENT) + b"zz\r\n",),
    "an event, then silence": (EVENTS + CHUNKED + chunked(EVENT), HANG),
    "one JSON answer": (OK + b"content-length: %d\r\n\r\n" % len(JSON) + JSON,),
    "a page": (OK + b"content-type: text/html\r\ncontent-length: 12\r\n\r\n<html>\n\nx\n\n",),
    "comments only": (EVENTS + CHUNKED + chunked(b": ping\n\n") * 3 + b"0\r\n\r\n",),
    "events that are no JSON": (EVENTS + CHUNKED + chunked(b"data: {half\n\n") + b"0\r\n\r\n",),
    "an error of its own": (EVENTS + CHUNKED + chunked(b'data: {"error": {"message": 5}}\n\n') + b"0\r\n\r\n",),
    "an error that is text": (
        EVENTS + CHUNKED + chunked(b'data: {"error": "boom"}\n\ndata: [DONE]\n\n') + b"0\r\n\r\n",
    ),
    "an error event without data": (EVENTS + CHUNKED + chunked(b"event: error\n\n") + b"0\r\n\r\n",),
}


@pytest.fixture
def engine() -> Iterator[RawEngine]:
    with raw_engine() as running:
        yield running


@pytest.fixture
def gateway(
    app_client: Callable[..., TestClient], local_store: Store, engine: RawEngine, tiny_reward: Checkpoint
) -> Iterator[tuple[FastAPI, httpx.Client]]:
    """A gateway on a real port; `sft-1` and `reward-1` are both the broken engine."""
    with local_store.session() as session:
        policy = engine_row("sft-1", url=engine.url)
        reward = engine_row("reward-1", url=engine.url, kind="reward")
        policy.heartbeat = reward.heartbeat = now() + timedelta(days=1)  # nobody beats here
        reward.manifest = {**reward.manifest, "path": str(tiny_reward.path), "stop_ids": []}
        session.add_all([policy, reward])
    app = app_client(open=True, upstream_seconds=0.5).app
    assert isinstance(app, FastAPI)
    with served(app) as url, httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        yield app, client


HELLO = [{"role": "user", "content": "hello"}]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"model": "sft-1", "messages": HELLO}),
    ("/v1/chat/completions", {"model": "sft-1", "messages": HELLO, "stream": True}),
    ("/v1/responses", {"model": "sft-1", "input": "hello", "stream": True}),
    ("/v1/loglikelihood", {"model": "sft-1", "pairs": [{"context": [1], "continuation": [2]}]}),
    ("/score", {"model": "reward-1", "messages": HELLO, "responses": ["so"]}),
]


def check(app: FastAPI, engine: RawEngine, answer: httpx.Response, fault: str) -> None:
    if answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream"):
        last = answer.text.rstrip("\n").split("\n\n")[-1]
        error = json.loads(last[last.index("data: ") + 6 :])["error"]
    elif answer.status_code == 200:
        (row,) = answer.json()["data"]  # a refusal of the one response or pair
        error = row["error"]
    else:
        assert answer.status_code in (400, 502, 503, 504), (fault, answer.text)
        error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}, fault
    assert error["message"], fault
    deadline = time.monotonic() + 10
    while (engine.open or app.state.endpoints.running.total()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (engine.open, app.state.endpoints.running.total()) == (0, 0), f"the engine still works: {fault}"


def test_engines_that_break_off(gateway: tuple[FastAPI, httpx.Client], engine: RawEngine) -> None:
    app, client = gateway
    for fault, script in BROKEN.items():
        engine.script, engine.requests = script, 0
        for path, body in REQUESTS:
            check(app, engine, client.post(path, json=body), fault)
        assert engine.requests >= len(REQUESTS), fault
    assert client.get("/health/live").status_code == 200


def test_streams_that_break_off(gateway: tuple[FastAPI, httpx.Client], engine: RawEngine) -> None:
    """200 with an error as the last event, or 503 where all came at once and the fault was seen before the answer."""
    app, client = gateway
    for fault, script in CUT_STREAMS.items():
        engine.script = script
        for path, body in REQUESTS:
            if body.get("stream"):
                check(app, engine, client.post(path, json=body), fault)
