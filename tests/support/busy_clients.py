"""Clients that keep a running service busy with requests of every kind, and judge each reply."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.live_service import Running

HANGS_SECONDS = 60.0  # without a byte: longer than any engine of the tests takes
SO = [{"role": "user", "content": "so"}]
CHAT = {"model": "policy/production", "messages": SO, "max_tokens": 32}
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    ("/v1/completions", {"model": "policy/production", "prompt": "the", "max_tokens": 32}),
    ("/score", {"model": "reward/production", "messages": SO, "responses": ["hot", "cold"]}),
)


class Load:
    """What came of the requests so far.

    Attributes:
        replies: status -> number of replies; of a stream that broke, the status of its error.
        wrong: replies that no client should get, in words.
    """

    def __init__(self, service: Running, kinds: tuple[tuple[str, dict[str, Any]], ...]) -> None:
        self.service, self.kinds = service, kinds
        self.replies: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.ended = threading.Event()

    def work(self, number: int) -> None:
        """One client, with one request after the other."""
        path, body = self.kinds[number % len(self.kinds)]
        with httpx.Client(base_url=self.service.url, headers=self.service.headers, trust_env=False) as client:
            while not self.ended.is_set():
                try:
                    reply = client.post(path, json=body, timeout=HANGS_SECONDS)
                except httpx.HTTPError as broken:
                    self.wrong.append(f"{path}: {type(broken).__name__}")
                    continue
                status, error = judge(reply)
                self.replies[status] += 1
                if status not in (200, 503) or (status == 503 and set(error) != {"message", "type", "param", "code"}):
                    self.wrong.append(f"{path}: {status} {reply.text[-300:]}")
                if status == 503:
                    self.ended.wait(0.1)


def judge(reply: httpx.Response) -> tuple[int, dict[str, Any]]:
    """Status and error of a reply; those of its last event where it is a stream."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        failure: dict[str, Any] = reply.json().get("error", {})
        return reply.status_code, failure
    last = reply.text.rstrip().rpartition("\n\n")[2].removeprefix("data: ")
    if last == "[DONE]":
        return 200, {}
    failure = json.loads(last)["error"]
    return (503 if failure["type"] == "service_unavailable_error" else 500), failure


@contextmanager
def load(service: Running, clients: int, kinds: tuple[tuple[str, dict[str, Any]], ...] = KINDS) -> Iterator[Load]:
    """Keep a service busy until the block ends and every request has its reply."""
    busy = Load(service, kinds)
    with ThreadPoolExecutor(clients) as pool:
        working: list[Future[None]] = [pool.submit(busy.work, number) for number in range(clients)]
        try:
            yield busy
        finally:
            busy.ended.set()
    for one in working:
        one.result()
