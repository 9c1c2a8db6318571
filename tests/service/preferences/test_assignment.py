"""Giving out tasks over stub engines, each of which refuses prompts in its own way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import select

from service.endpoints import Endpoint, Endpoints, View
from service.errors import ApiError
from service.preferences import assignment, pool, prompts, tasks
from service.preferences.ahead import Ahead
from service.preferences.preparation import Desk, Prepared, Wish
from service.settings import Settings
from service.store.database import Store
from service.store.models import Labeler, SetAside, Task

NAMES = ("policy/production", "policy/candidate")


@dataclass
class Policy:
    """A stub engine.

    Attributes:
        refuses: words that it refuses in a prompt, with status and message.
        seconds: how long an answer takes.
        prompts: last messages of every request.
        running: requests that it is answering now.
    """

    name: str
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    seconds: float = 0.0
    prompts: list[str] = field(default_factory=list)
    running: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = " ".join(message["content"] for message in body["messages"])
        self.prompts.append(body["messages"][-1]["content"])
        for word, (status, message) in self.refuses.items():
            if word in text:
                return web.json_response({"error": {"message": message, "param": None}}, status=status)
        self.running += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        number = len(self.prompts)
        choices = [
            {"index": i, "message": {"content": f"{self.name} {number} {i}"}, "finish_reason": "stop"}
            for i in range(body["n"])
        ]
        return web.json_response({"choices": choices})


@asynccontextmanager
async def desk_over(store: Store, policies: list[Policy], **settings: object) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        ready = {}
        for policy in policies:
            app = web.Application()
            app.router.add_post("/v1/chat/completions", policy.answer)
            server = await stack.enter_async_context(TestServer(app, handler_cancellation=True))
            url = str(server.make_url("")).rstrip("/")
            ready[policy.name] = (
                Endpoint(
                    policy.name, "policy", url, "sft", 256, {}, 0.0, (0,), ("<|end|>",), False, "2026", Path("/nowhere")
                ),
            )
        endpoints = Endpoints(store)
        promote(endpoints, ready, [policy.name for policy in policies][:2])
        http = await stack.enter_async_context(aiohttp.ClientSession())
        values = {"collect_overlap": 0, **settings}
        yield Desk(store, Settings.model_validate(values), endpoints, http)


def promote(endpoints: Endpoints, ready: dict[str, tuple[Endpoint, ...]], names: list[str]) -> None:
    aliases = dict(zip(NAMES, names, strict=False))
    endpoints.view = View(ready, aliases, aliases, ())


@asynccontextmanager
async def running(ahead: Ahead) -> AsyncIterator[Ahead]:
    loop = asyncio.create_task(ahead.run())
    try:
        yield ahead
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("too slow")


def stock(store: Store, rows: dict[str, str], systems: dict[str, str] | None = None) -> None:
    """Import prompts by id; `systems` gives some of them a system turn."""
    imported = []
    for name, text in rows.items():
        system = [{"role": "system", "content": (systems or {})[name]}] if name in (systems or {}) else []
        imported.append({"id": name, "messages": [*system, {"role": "user", "content": text}]})
    assert prompts.import_rows(store, imported).imported == len(rows)


def close(store: Store, assigned: assignment.Assigned) -> None:
    assert assigned.task is not None
    with store.session() as session:
        tasks.close_task(session, assigned.task.id, assigned.task.labeler_id, assigned.token, "skipped")


def run(work: Awaitable[None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(work, 60)

    asyncio.run(limited())


def test_prompts_that_each_policy_refuses_in_its_own_way_hold_up_nobody(store: Store, people: list[Labeler]) -> None:
    """Some only the one refuses, some only the other, some both; every labeler gets every other prompt once."""
    good = {f"good{i}": f"fine {i}" for i in range(4)}
    gemma = {f"system{i}": f"with a system turn {i}" for i in range(3)}
    long_ones = {f"long{i}": f"too long {i}" for i in range(3)}
    nobody = {f"both{i}": f"too long with a system turn {i}" for i in range(3)}
    control = {f"control{i}": f"a <|end|> inside {i}" for i in range(25)}
    stock(store, good | gemma | long_ones | nobody | control)
    a = Policy("a", {"with a system turn": (400, "System role not supported")})
    b = Policy("b", {"too long": (400, "This model's maximum context length is 256 tokens")})

    async def play() -> None:
        async with desk_over(store, [a, b]) as desk, running(Ahead(desk)) as ahead:
            for labeler in people:
                wish = Wish(labeler.id, "compare", 2)
                writers: dict[str, set[str | None]] = {}
                while (assigned := await assignment.next_task(desk, ahead, wish)).task is not None:
                    task = assigned.task
                    writers[task.prompt_id] = {response.checkpoint for response in task.responses}
                    close(store, assigned)
                expected = {name: {"a", "b"} for name in good} | {name: {"b"} for name in gemma}
                assert writers == expected | {name: {"a"} for name in long_ones}
                with store.session() as session:
                    assert pool.progress(session, labeler.id, desk.compared) == pool.Progress(0, 0, 28)

    run(play())
    for policy in (a, b):
        refused = Counter(text for text in policy.prompts if any(word in text for word in policy.refuses))
        assert len(refused) == 6
        assert set(refused.values()) == {1}, "a policy is asked again what it refused"
    assert not any("<|end|>" in text for text in a.prompts + b.prompts)
    with store.session() as session:
        rows = {(row.prompt_id, row.checkpoint): row.reason for row in session.scalars(select(SetAside))}
    assert set(rows) == {
        *((name, "a") for name in (*gemma, *nobody, *control)),
        *((name, "b") for name in (*long_ones, *nobody, *control)),
    }
    assert "System role not supported" in rows["system0", "a"]
    assert "no room for a response" in rows["long0", "b"]
    assert "<|end|>" in rows["control0", "a"]


def test_another_policy_gets_what_one_refused_and_a_correction_everybody(store: Store, people: list[Labeler]) -> None:
    stock(store, {"p": "odd"})
    a, c = Policy("a", {"odd": (400, "no")}), Policy("c")

    async def play() -> None:
        async with desk_over(store, [a, c]) as desk:
            ahead, wish = Ahead(desk), Wish(people[0].id, "compare", 2)
            ready = dict(desk.endpoints.view.ready)
            promote(desk.endpoints, ready, ["a"])
            assert (await assignment.next_task(desk, ahead, wish)).task is None
            promote(desk.endpoints, ready, ["c"])
            assigned = await assignment.next_task(desk, ahead, wish)
            assert assigned.task is not None
            promote(desk.endpoints, ready, ["a"])
            other = Wish(people[1].id, "compare", 2)
            assert (await assignment.next_task(desk, ahead, other)).task is None
            with store.session() as session:
                pool.forget_refusals(session, ["p"])
            a.refuses.clear()
            assert (await assignment.next_task(desk, ahead, other)).task is not None

    run(play())


@pytest.mark.parametrize("status, told", [(401, 502), (404, 502), (429, 429), (500, 502), (503, 503), (504, 504)])
def test_a_passing_failure_sets_nothing_aside(store: Store, people: list[Labeler], status: int, told: int) -> None:
    stock(store, {"p": "x"})
    policy = Policy("a", {"x": (status, "not now")})

    async def play() -> None:
        async with desk_over(store, [policy]) as desk, running(Ahead(desk)) as ahead:
            wish = Wish(people[0].id, "compare", 2)
            with pytest.raises(ApiError) as failed:
                await assignment.next_task(desk, ahead, wish)
            assert failed.value.status == told
            policy.refuses.clear()
            assert (await assignment.next_task(desk, ahead, wish)).task is not None

    run(play())
    with store.session() as session:
        assert session.scalars(select(SetAside)).all() == []


def test_tasks_are_sampled_ahead_for_active_labelers_and_taken_at_once(store: Store, people: list[Labeler]) -> None:
    stock(store, {f"p{i}": f"question {i}" for i in range(12)})
    policies = [Policy("a", seconds=0.3), Policy("b", seconds=0.3)]

    async def play() -> None:
        async with desk_over(store, policies, collect_ahead=3) as desk, running(Ahead(desk)) as ahead:
            wishes = [Wish(labeler.id, "rank", 4) for labeler in people[:2]]
            for wish in wishes:
                await assignment.next_task(desk, ahead, wish)
            await until(lambda: all(len(ahead.prompts_of(wish)) == 3 for wish in wishes))
            assert len(ahead.prompts()) == 6, "two labelers are prepared the same prompt while others are free"
            count = sum(len(policy.prompts) for policy in policies)
            await asyncio.sleep(0.6)
            assert sum(len(policy.prompts) for policy in policies) == count == 2 * 8, "more is sampled than is kept"
            for policy in policies:
                policy.seconds = 30
            async with asyncio.timeout(15):  # the labeler waits for no engine
                for _ in range(3):
                    assigned = await assignment.next_task(desk, ahead, wishes[0])
                    assert assigned.task is not None
                    assert len(assigned.task.responses) == 4

    run(play())


@pytest.mark.parametrize("at_once", [1, 2])
def test_as_many_tasks_are_sampled_at_a_time_as_is_set(store: Store, people: list[Labeler], at_once: int) -> None:
    stock(store, {f"p{i}": f"question {i}" for i in range(12)})
    policies = [Policy("a", seconds=30), Policy("b", seconds=30)]
    assert len(people) > at_once

    async def play() -> None:
        async with desk_over(store, policies, collect_at_once=at_once) as desk, running(Ahead(desk)) as ahead:
            for labeler in people:
                ahead.keep_for(Wish(labeler.id, "compare", 2))
            await until(lambda: all(policy.running == at_once for policy in policies))
            await asyncio.sleep(0.3)
            assert [policy.running for policy in policies] == [at_once, at_once]

    run(play())


def test_what_was_sampled_ahead_is_dropped_when_an_alias_moves(store: Store, people: list[Labeler]) -> None:
    stock(store, {f"p{i}": f"question {i}" for i in range(12)})

    async def play() -> None:
        async with desk_over(store, [Policy("a"), Policy("b"), Policy("c")]) as desk, running(Ahead(desk)) as ahead:
            wish = Wish(people[0].id, "compare", 2)
            await assignment.next_task(desk, ahead, wish)
            await until(lambda: len(ahead.prompts_of(wish)) == 2)
            promote(desk.endpoints, dict(desk.endpoints.view.ready), ["a", "c"])
            for _ in range(4):
                assigned = await assignment.next_task(desk, ahead, wish)
                assert assigned.task is not None
                assert {response.checkpoint for response in assigned.task.responses} == {"a", "c"}

    run(play())


def test_nothing_is_sampled_for_those_who_left(
    store: Store, people: list[Labeler], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(store, {f"p{i}": f"question {i}" for i in range(12)})
    policy = Policy("a", seconds=30)
    monkeypatch.setattr("service.preferences.ahead.ACTIVE_SECONDS", 0.3)
    monkeypatch.setattr("service.preferences.ahead.LOOK_SECONDS", 0.1)

    async def play() -> None:
        async with desk_over(store, [policy]) as desk, running(Ahead(desk)) as ahead:
            wish = Wish(people[0].id, "compare", 2)
            ahead.keep_for(wish)
            await until(lambda: policy.running)
            await until(lambda: not policy.running)
            await asyncio.sleep(0.4)
            assert len(policy.prompts) == 1
            # Back again, and now in a hurry.
            policy.seconds = 0
            assert (await assignment.next_task(desk, ahead, wish)).task is not None

    run(play())


def test_leaving_stops_the_engines(store: Store, people: list[Labeler]) -> None:
    stock(store, {"p": "x"})
    policies = [Policy("a", seconds=30), Policy("b", seconds=30)]

    async def play() -> None:
        async with desk_over(store, policies) as desk:
            work = asyncio.create_task(assignment.next_task(desk, Ahead(desk), Wish(people[0].id, "compare", 2)))
            await until(lambda: all(policy.running for policy in policies))
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await until(lambda: not any(policy.running for policy in policies))
            assert desk.being_sampled == Counter()
            assert desk.endpoints.running.total() == 0

    run(play())


def test_a_prompt_that_changed_after_it_was_sampled_is_not_given(store: Store, people: list[Labeler]) -> None:
    stock(store, {"p": "Helo", "q": "other"})

    async def play() -> None:
        async with desk_over(store, [Policy("a"), Policy("b")]) as desk:
            wish = Wish(people[0].id, "compare", 2)
            prepared = [await assignment.prepare(desk, wish, own) for own in ((), ("p",), ("q",))]
            by_prompt = {one.prompt_id: one for one in prepared if isinstance(one, Prepared)}
            row = {"id": "p", "messages": [{"role": "user", "content": "Hello"}]}
            assert prompts.import_rows(store, [row], correct=True).corrected == 1
            with store.session() as session:
                pool.retire(session, "q", "private")
            assert [assignment.give(desk, wish, by_prompt[name]) for name in ("p", "q")] == [None, None]

    run(play())


def test_a_typed_prompt_that_was_used_is_refused_before_any_engine_writes(store: Store, people: list[Labeler]) -> None:
    policy = Policy("a")

    async def play() -> None:
        async with desk_over(store, [policy]) as desk:
            wish, mine = Wish(people[0].id, "compare", 2), [{"role": "user", "content": "mine"}]
            assert (await assignment.typed_task(desk, wish, mine, people[0].pseudonym)).task is not None
            asked = len(policy.prompts)
            with pytest.raises(ApiError) as refused:
                await assignment.typed_task(desk, wish, mine, people[0].pseudonym)
            assert refused.value.code == "prompt_used"
            assert len(policy.prompts) == asked
            policy.refuses["mine"] = (400, "no such words")
            other = Wish(people[1].id, "compare", 2)
            with pytest.raises(ApiError, match="no such words") as refused:
                await assignment.typed_task(desk, other, mine, people[1].pseudonym)
            assert refused.value.status == 400

    run(play())


def test_many_requests_of_one_labeler_at_once_leave_few_open_tasks(store: Store, people: list[Labeler]) -> None:
    stock(store, {f"p{i}": f"question {i}" for i in range(30)})

    async def play() -> None:
        async with desk_over(store, [Policy("a"), Policy("b")]) as desk, running(Ahead(desk)) as ahead:
            wish = Wish(people[0].id, "compare", 2)
            all_at_once = await asyncio.gather(*(assignment.next_task(desk, ahead, wish) for _ in range(12)))
            assert all(assigned.task for assigned in all_at_once)
        with store.session() as session:
            states = Counter(session.scalars(select(Task.state)))
        assert states == {"open": tasks.MAX_OPEN, "expired": 12 - tasks.MAX_OPEN}

    run(play())


@pytest.mark.unit
def test_a_prompt_whose_task_is_being_written_is_not_sampled_again() -> None:
    ahead, wish = Ahead(None), Wish("ada", "compare", 2)  # nothing is sampled
    with ahead.giving(wish, "p"), ahead.giving(wish, "p"):
        assert ahead.prompts_of(wish) == {"p"}
        assert ahead.prompts_of(Wish("bob", "compare", 2)) == set()
    assert ahead.prompts_of(wish) == set()
