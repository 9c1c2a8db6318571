"""Reading what the service says, and the shuffled control."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from training.artifacts.comparisons import Comparison, Response
from training.artifacts.errors import UserError
from training.loop import client
from training.loop.client import Service
from training.loop.simulate import shuffled
from training.loop.turn import Config, _of_this_world

pytestmark = pytest.mark.unit


def comparison(number: int) -> Comparison:
    return Comparison(
        id=str(number),
        messages=({"role": "user", "content": "x"},),
        responses=tuple(Response(text) for text in "abcd"),
        ranks=(1, 2, 2, 4),
    )


def test_shuffling_keeps_each_rankings_ranks_and_loses_their_order() -> None:
    rows = [comparison(n) for n in range(400)]
    control = shuffled(rows, seed=1)
    assert [sorted(c.ranks or ()) for c in control] == [[1, 2, 2, 4]] * 400
    assert [c.responses for c in control] == [c.responses for c in rows]
    first = sum((c.ranks or ())[0] == 1 for c in control)
    assert 70 < first < 130  # a quarter of 400, six standard deviations wide
    assert control == shuffled(rows, seed=1)


def test_a_service_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"cannot reach http://127\.0\.0\.1:9/v1/models .*start it with"):
        Service("http://127.0.0.1:9", "key").ask("GET", "/v1/models")


BUSY = {"error": {"message": "the service's database is busy"}}


def asked(answers: Iterator[tuple[int, dict[str, str]]]) -> tuple[Any, list[Any]]:
    """What `request` returns or raises where a service gives these answers, and the bodies that it sent."""
    bodies: list[Any] = []

    async def answer(incoming: web.Request) -> web.Response:
        bodies.append(await incoming.json())
        status, headers = next(answers)
        return web.json_response({"task": None} if status == 200 else BUSY, status=status, headers=headers)

    async def ask() -> Any:
        app = web.Application()
        app.router.add_post("/api/tasks/next", answer)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            url = str(server.make_url("/api/tasks/next"))
            try:
                return await client.request(session, "POST", url, json={"kind": "rank"})
            except UserError as error:
                return error

    return asyncio.run(ask()), bodies


def test_a_busy_service_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "UNREADABLE_SECONDS", 0.01)
    busy = [(503, {"Retry-After": "0"}), (503, {"Retry-After": "Thu, 26 Nov 2026 12:00:00 GMT"})]
    answer, bodies = asked(iter([*busy, (200, {})]))
    assert answer == {"task": None}
    assert bodies == [{"kind": "rank"}] * 3


@pytest.mark.parametrize(
    ("status", "headers"),
    [(503, {}), (500, {"Retry-After": "0"}), (429, {"Retry-After": "0"}), (400, {}), (503, {"Retry-After": "100000"})],
)
def test_other_failures_are_said_at_once(status: int, headers: dict[str, str]) -> None:
    error, bodies = asked(iter([(status, headers), (200, {})]))
    assert isinstance(error, UserError)
    assert f"answered {status}: the service's database is busy" in str(error)
    assert len(bodies) == 1


def test_a_service_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 1.5)
    error, bodies = asked(iter([(503, {"Retry-After": "1"})] * 9))
    assert "answered 503: the service's database is busy" in str(error)
    assert len(bodies) == 2


def test_comparisons_of_another_worlds_prompts_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("2-demo-1", "2-demo-10"):
        (tmp_path / "world" / name).mkdir(parents=True)
        (tmp_path / "world" / name / "world.json").write_text("{}")
    rows = [
        replace(comparison(n), prompt_id=prompt)
        for n, prompt in enumerate(["2-demo-1-collect-00000", "2-demo-10-collect-00000", "typed-abc", None])
    ]
    config = Config(prompts=f"{tmp_path}/world/2-demo-1/prompts-collect.jsonl", labelers="miniature")
    assert [c.prompt_id for c in _of_this_world(config, rows)] == ["2-demo-1-collect-00000", "typed-abc", None]
    assert "left out: 1 comparisons" in capsys.readouterr().err
    assert _of_this_world(Config(prompts=f"{tmp_path}/mine.jsonl", labelers="miniature"), rows) == rows


class Scripted(Service):
    """A service whose models and engines are those of a list, one entry per look."""

    looks: list[tuple[dict[str, str], list[tuple[str, str, bool]]]]

    def ask(self, method: str, path: str, **options: Any) -> Any:
        models, engines = self.looks[0]
        if path == "/v1/models":
            if models.get("down"):
                self.looks.pop(0)
                raise UserError("cannot reach the service")
            return {"data": [{"id": name, "root": root} for name, root in models.items()]}
        if len(self.looks) > 1:
            self.looks.pop(0)
        names = ("checkpoint", "state", "given_up")
        return {"data": [dict(zip(names, row, strict=True), detail="no weights") for row in engines]}


def scripted(*looks: tuple[dict[str, str], list[tuple[str, str, bool]]]) -> Scripted:
    service = Scripted("http://127.0.0.1:9", "key")
    object.__setattr__(service, "looks", list(looks))
    return service


NAMES = {"b": "b", "policy/production": "b"}


def test_an_alias_is_waited_for_until_it_answers_with_what_was_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POLL_SECONDS", 0.0)
    service = scripted(
        ({"down": "x"}, []),
        ({"a": "a", "policy/production": "a"}, [("b", "starting", False)]),
        ({"a": "a", "b": "b", "policy/production": "a"}, [("b", "ready", False)]),
        ({"b": "b", "policy/production": "b"}, []),
    )
    client.wait_until_served(service, NAMES, lambda: None)
    assert len(service.looks) == 1


def test_an_engine_that_is_given_up_ends_the_wait_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(client, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(client, "READY_SECONDS", 0.3)
    with pytest.raises(UserError, match="b cannot be served: no weights"):
        client.wait_until_served(scripted(({}, [("b", "failed", True)])), NAMES)
    for rows in ([("b", "failed", True), ("b", "starting", False)], [("b", "failed", True), ("b", "failed", False)]):
        with pytest.raises(UserError, match="b, policy/production not served after"):
            client.wait_until_served(scripted(({}, rows)), NAMES)


def test_only_a_service_that_starts_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot reach"):
        client.wait_until_served(scripted(({"down": "x"}, [])), NAMES)

    def ended() -> None:
        raise UserError("the service ended")

    with pytest.raises(UserError, match="the service ended"):
        client.wait_until_served(scripted(({"down": "x"}, [])), NAMES, ended)
