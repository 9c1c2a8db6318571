"""Measures and checks `service.capacity`: `python -m tests.benchmarks.capacity`.

`costs` measures a gateway over an engine of fixed pace: CPU time and bytes of requests, tokens and votes. `rows` fills
SQLite and PostgreSQL with votes and looks at their size. `transactions` counts those of a vote in PostgreSQL. `check`
predicts a twentieth of 1,000 requests/s and 10,000 labelers, then runs it, and compares. Aim: within TOLERANCES.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, quantiles

import aiohttp
import psutil
from aiohttp import web
from sqlalchemy import insert, text

from service.capacity import Costs, Load, mean_wait
from service.keys import add_key
from service.store.database import Store
from service.store.models import Alias, Answer, Labeler, Prompt, Task, TaskResponse, new_id, now
from tests.service.conftest import empty_postgresql
from tests.support.fixed_engine import fixed_engine
from tests.support.fixed_gateway import MANIFEST, add_engine
from tests.support.in_thread import served
from tests.support.live_service import Running, running_service
from tests.support.stub_engine import chat_answer

FIRST, PACE = 0.2, 0.02  # seconds to the first token, and from one to the next
SCALE = 20
WORDS = 32
RESPONSE = "A sentence of an answer that people compare with another one. " * 10
# Largest deviation from the prediction: relative, but of the latency, which is in seconds.
TOLERANCES = {
    "requests per second": 0.1,
    "votes per second": 0.15,
    "cores": 0.3,
    "bytes per request": 0.05,
    "seconds": 0.1,
}


@dataclass
class Seen:
    """What a load saw: seconds and bytes of each answer, and seconds that labelers waited for each vote's
    task, and when they answered it, since the begin."""

    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    cpu: float = 0.0
    wall: float = 0.0


@contextlib.contextmanager
def service(database: str | None = None) -> Iterator[Running]:
    """A gateway over an engine of fixed pace for requests, and over two instant ones for labelers.

    Args:
        database: empty one of PostgreSQL; default: SQLite.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else {}
        texts = [f"{RESPONSE} {random.random()}" for _ in range(body.get("n") or 1)]
        return web.json_response(chat_answer(body, texts) if body else {})

    with (
        tempfile.TemporaryDirectory() as folder,
        fixed_engine(FIRST, PACE) as fixed,
        served("*", "/{p:.*}", answer) as url,
    ):
        home = Path(folder)
        store = Store(database or f"sqlite:///{home / 'service.db'}")
        store.migrate()
        for name, where in (("fixed-1", fixed), ("fixed-2", url), ("fixed-3", url)):
            add_engine(store, name, where, MANIFEST)
        with store.session() as session:
            for alias, name in (("policy/production", "fixed-2"), ("policy/candidate", "fixed-3")):
                session.add(Alias(name=alias, checkpoint=name, served=name))
            key = add_key(session, "benchmark", ["admin"])[1]
        store.close()
        with running_service(home, ("--database", database) if database else ()) as running:
            running.key = key
            with running.client() as client:
                running.wait_for(lambda: len(client.get("/v1/models").json()["data"]) >= 3, 60)
            yield running


async def request(http: aiohttp.ClientSession, running: Running, tokens: int, seen: Seen) -> None:
    body = {
        "model": "fixed-1",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": tokens,
        "stream": True,
    }
    began = time.perf_counter()
    async with http.post(f"{running.url}/v1/chat/completions", json=body, headers=running.headers) as reply:
        content = await reply.read()
        assert reply.status == 200, content
    assert content.endswith(b"data: [DONE]\n\n")
    seen.seconds.append(time.perf_counter() - began)
    seen.bytes.append(len(content))


async def requests(running: Running, rate: float, tokens: int, seconds: float, seen: Seen) -> None:
    """Requests at random times, whether those before are answered or not."""
    if not rate:
        return
    rng, sending = random.Random(0), set()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        end, due = time.perf_counter() + seconds, time.perf_counter()
        while (due := due + rng.expovariate(rate)) < end:
            await asyncio.sleep(due - time.perf_counter())
            sending.add(asyncio.create_task(request(http, running, tokens, seen)))
        await asyncio.gather(*sending)


async def labeler(running: Running, token: str, pause: float, end: float, seen: Seen) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(running.url, cookie_jar=jar, raise_for_status=True) as http:
        async with http.post("/api/session", json={"token": token}) as signed:
            headers = {"X-CSRF-Token": (await signed.json())["csrf"]}
        await asyncio.sleep(random.random() * pause)
        while time.perf_counter() < end:
            began = time.perf_counter()
            async with http.post("/api/tasks/next", json={"kind": "compare"}, headers=headers) as reply:
                task = (await reply.json())["task"]
            wait = time.perf_counter() - began
            await asyncio.sleep(max(0.0, pause - wait))
            body = {"token": task["token"], "ranks": [1, 2], "seconds": pause}
            async with http.post(f"/api/tasks/{task['id']}/answer", json=body, headers=headers):
                seen.waits.append(wait)
                seen.answered.append(time.perf_counter())


def run(running: Running, rate: float, tokens: int, votes: float, seconds: float) -> Seen:
    """Requests per second and votes per second together; each labeler takes five seconds for a task."""
    seen, pause = Seen(), 5.0
    with running.client() as client:
        count = round(votes * pause)
        rows = [{"prompt": f"question {new_id()}"} for _ in range(int(votes * seconds * 2) + 10 * bool(count))]
        if rows:
            client.post("/admin/prompts", json={"prompts": rows}).raise_for_status()
        tokens_of = [client.post("/admin/labelers", json={"name": new_id()}).json()["token"] for _ in range(count)]
    process = psutil.Process(running.process.pid)

    def cpu() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    async def all_at_once() -> None:
        end = time.perf_counter() + seconds
        people = [labeler(running, token, pause, end, seen) for token in tokens_of]
        await asyncio.gather(requests(running, rate, tokens, seconds, seen), *people)

    before, began = cpu(), time.perf_counter()
    asyncio.run(all_at_once())
    seen.answered = [when - began for when in seen.answered]
    seen.cpu, seen.wall = cpu() - before, time.perf_counter() - began
    return seen


def costs(seconds: float) -> Costs:
    """Measured one kind after the other; an idle gateway's CPU time is taken off."""
    with service() as running:
        run(running, 20, WORDS, 4, 5)  # warms up
        process = psutil.Process(running.process.pid).cpu_times()
        time.sleep(5)
        later = psutil.Process(running.process.pid).cpu_times()
        rest = (later.user + later.system - process.user - process.system) / 5
        short, long = (run(running, 40, n, 0, seconds) for n in (1, 2 * WORDS))
        votes = run(running, 0, 1, 8, seconds)
    per = [(one.cpu - rest * one.wall) / len(one.seconds) for one in (short, long)]
    token = (per[1] - per[0]) / (2 * WORDS - 1)
    size = (mean(long.bytes) - mean(short.bytes)) / (2 * WORDS - 1)
    return Costs(
        request=per[0] - token, token=token, vote=(votes.cpu - rest * votes.wall) / len(votes.waits),
        request_bytes=mean(short.bytes) - size, token_bytes=size,
    )  # fmt: skip


def transactions(seconds: float) -> dict[str, float]:
    """Of a vote in PostgreSQL: transactions, rows written, and CPU seconds of the gateway; what idles is taken off."""
    columns = ("xact_commit", "tup_inserted", "tup_updated")
    query = text(f"select {', '.join(columns)} from pg_stat_database where datname = current_database()")

    def counts(store: Store) -> list[int]:
        time.sleep(3)  # the server's processes report after a second or so
        with store.engine.connect() as connection:
            return list(connection.execute(query).one())

    with empty_postgresql() as url, service(url) as running:
        store = Store(url)
        run(running, 0, 1, 4, 12)
        before, began = counts(store), time.perf_counter()
        time.sleep(5)
        idle, pause = counts(store), time.perf_counter() - began
        began = time.perf_counter()
        seen = run(running, 0, 1, 8, seconds)
        after, wall = counts(store), time.perf_counter() - began
        store.close()
    count = len(seen.waits)
    each = [(c - b - (b - a) * wall / pause) / count for a, b, c in zip(before, idle, after, strict=True)]
    return dict(zip(columns, each, strict=True)) | {
        "cpu": seen.cpu / count,
        "idle_per_second": (idle[0] - before[0]) / pause,
    }


def check(costs: Costs, seconds: float) -> dict[str, tuple[float, float]]:
    """Predicted and measured of a twentieth of the load."""
    load = Load(requests=1000 / SCALE, tokens=WORDS, labelers=10_000 / SCALE)
    with service() as running:
        run(running, 20, WORDS, 4, 5)
        seen = run(running, load.requests, WORDS, load.votes, seconds)
    busy = load.work(costs)
    # A stream ends `WORDS` paces after its first token: its usage comes last.
    predicted = FIRST + WORDS * PACE + costs.request + mean_wait(busy, load, costs)
    print(
        f"p99 of answers {quantiles(seen.seconds, n=100)[-1]:.3f} s, of waits {quantiles(seen.waits, n=100)[-1]:.3f} s"
    )
    return {
        "requests per second": (load.requests, len(seen.seconds) / seconds),
        # Labelers begin within the first five seconds, and answer after five more.
        "votes per second": (load.votes, sum(10 < when <= seconds for when in seen.answered) / (seconds - 10)),
        "cores": (busy, seen.cpu / seen.wall),
        "bytes per request": (costs.request_bytes + WORDS * costs.token_bytes, mean(seen.bytes)),
        "seconds": (predicted, mean(seen.seconds)),
    }


def missed(results: dict[str, tuple[float, float]]) -> list[str]:
    """Names of what lies outside its tolerance."""
    return [
        name
        for name, (predicted, measured) in results.items()
        if abs(measured - predicted) > TOLERANCES[name] * (1 if name == "seconds" else predicted)
    ]


def bytes_per_vote(url: str, votes: int) -> float:
    """Of a vote over two responses: tasks, responses, answers and indexes, without the texts and the prompts."""
    store = Store(url)
    store.migrate()
    with store.session() as session:
        people = [Labeler(name=f"l{n}", pseudonym=f"p{n}") for n in range(100)]
        session.add_all(people)
        session.flush()
        labelers = [one.id for one in people]
    prompts = [f"prompt-{n}" for n in range(votes // 10)]
    with store.session() as session:
        for start in range(0, len(prompts), 1000):
            rows = [
                {"id": id, "messages": [{"role": "user", "content": RESPONSE}], "source": "imported"}
                for id in prompts[start : start + 1000]
            ]
            session.execute(insert(Prompt), rows)
    empty = size_of(store)
    for start in range(0, votes, 1000):
        tasks, responses, answers = [], [], []
        for number in range(start, min(votes, start + 1000)):
            task, who = new_id(), labelers[number // len(prompts) % 100]
            tasks.append({
                "id": task, "kind": "compare", "prompt_id": prompts[number % len(prompts)], "labeler_id": who,
                "token_hash": new_id() * 2, "state": "answered", "shown": [0, 1], "guideline": "1", "propensity": 1.0,
                "expires": now(), "closed": now(),
            })  # fmt: skip
            responses += [
                {"task_id": task, "position": n, "text": RESPONSE, "checkpoint": "20261127-101010-ppo-abcd",
                 "sampling": {"temperature": 1.0, "top_p": 1.0, "seed": 12345678}, "finish_reason": "stop"}
                for n in range(2)
            ]  # fmt: skip
            answers.append({"task_id": task, "labeler_id": who, "ranks": [1, 2], "seconds": 30.0})
        with store.session() as session:
            session.execute(insert(Task), tasks)
            session.execute(insert(TaskResponse), responses)
            session.execute(insert(Answer), answers)
    size = size_of(store)
    store.close()
    return (size - empty) / votes - 2 * len(RESPONSE)


def size_of(store: Store) -> int:
    """Bytes of a database."""
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "postgresql":
            return int(connection.scalar(text("select pg_database_size(current_database())")) or 0)
        pages = int(connection.scalar(text("pragma page_count")) or 0)
        return pages * int(connection.scalar(text("pragma page_size")) or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["costs", "rows", "transactions", "check"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--votes", type=int, default=100_000)
    options = parser.parse_args()
    measured = Costs()
    if "costs" in options.parts:
        measured = costs(options.seconds)
        print(json.dumps(vars(measured), indent=1))
    if "rows" in options.parts:
        with tempfile.TemporaryDirectory() as folder, empty_postgresql() as url:
            for name in (f"sqlite:///{folder}/rows.db", url):
                print(f"{name.split(':')[0]} bytes per vote {bytes_per_vote(name, options.votes):.0f}", flush=True)
    if "transactions" in options.parts:
        for name, value in transactions(options.seconds).items():
            print(f"PostgreSQL, per vote: {name} {value:.3g}")
    if "check" in options.parts:
        results = check(measured, options.seconds)
        for name, (predicted, seen) in results.items():
            print(f"{name}: predicted {predicted:.4g}, measured {seen:.4g}")
        print(f"outside their tolerance: {', '.join(missed(results)) or 'none'}")


if __name__ == "__main__":
    main()
