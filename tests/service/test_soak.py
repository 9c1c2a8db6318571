"""100,000 requests of every kind to one gateway: its memory stays flat, and no task, file or connection is left."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
import psutil
import pytest

from tests.support.counted_service import TASKS
from tests.support.fixed_engine import fixed_engine
from tests.support.fixed_gateway import MANIFEST, NAME, add_engine, gateway_over
from tests.support.live_service import Running
from tests.support.stub_reward import stub_reward
from training.artifacts.checkpoints import Checkpoint

WARM_UP, REQUESTS = 20_000, 100_000
CLIENTS = 32
REWARD = "reward-1"
GROWTH = 1.05  # of memory
KEPT = 8  # files and tasks that may come late: a thread's database connection is opened when a second one is needed
REST_SECONDS = 8  # idle connections to engines close after 4
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True)
class Held:
    """What the gateway's process holds at rest."""

    bytes: int
    files: int
    connections: int
    tasks: int


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(3600)
def test_nothing_is_left_of_100_000_requests(tiny_reward: Checkpoint) -> None:
    manifest = tiny_reward.manifest
    scoring = {**MANIFEST, "reward_offset": 0.5, "stop_ids": list(manifest.stop_ids), "path": str(tiny_reward.path)}
    with (
        stub_reward() as scorer,
        fixed_engine(first=0.002, pace=0.001) as url,
        gateway_over(url, "tests.support.counted_service") as running,
    ):
        scorer.context = 256
        add_engine(running.store, REWARD, scorer.url, scoring, "reward")
        key = running.add_key("generate", "score")
        with running.client() as client:
            running.wait_for(lambda: client.get(f"/v1/models/{REWARD}").status_code == 200, 60)
        asyncio.run(send(running, key, WARM_UP))
        before = held(running)
        asyncio.run(send(running, key, REQUESTS))
        after = held(running)
    print(f"after {WARM_UP:,} requests {before}, after {REQUESTS:,} more {after}")
    assert after.bytes <= GROWTH * before.bytes
    assert after.files <= before.files + KEPT
    assert after.connections <= before.connections
    assert after.tasks <= before.tasks + KEPT


def held(running: Running) -> Held:
    time.sleep(REST_SECONDS)
    process = psutil.Process(running.process.pid)
    with running.client() as client:
        tasks = client.get(TASKS).json()
    time.sleep(1)  # this client's connection closes too
    connections = [c for c in process.net_connections() if c.status == psutil.CONN_ESTABLISHED]
    return Held(process.memory_info().rss, process.num_fds(), len(connections), tasks)


async def send(running: Running, key: str, requests: int) -> None:
    """That many requests, each by the next free client."""
    numbers = iter(range(requests))

    async def client(http: aiohttp.ClientSession) -> None:
        for number in numbers:
            await one(http, running.url, key, number)
            if number % 10_000 == 0:
                print(f"request {number:,}", flush=True)

    async with aiohttp.ClientSession() as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))


async def one(http: aiohttp.ClientSession, url: str, key: str, number: int) -> None:
    """One request, of the kind that is its number's turn."""
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": NAME, "messages": HELLO, "max_tokens": 4}
    path, expected = CHAT, 200
    kind = number % 20
    if kind == 0:
        headers, expected = {"Authorization": f"Bearer al-{number}"}, 401
    elif kind == 1:
        body, expected = {**body, "no_such_field": 1}, 400
    elif kind == 2:
        body, expected = {**body, "model": f"nobody-{number}"}, 404
    elif kind == 3:
        path, body = "/score", {"model": REWARD, "messages": HELLO, "responses": [f"it is {number}", "and so on"]}
    elif kind in (4, 5):
        path, body = "/v1/completions", {"model": NAME, "prompt": f"{number} ", "max_tokens": 2}
    elif kind < 12:
        body = {**body, "stream": True}
    async with http.post(url + path, json=body, headers=headers) as reply:
        assert reply.status == expected, await reply.text()
        if kind == 6:
            await reply.content.readany()
            reply.close()  # leaves in the middle of the stream
        elif body.get("stream"):
            assert (await reply.read()).endswith(b"data: [DONE]\n\n")
        else:
            await reply.read()
