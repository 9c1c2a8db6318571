"""What a supervisor does about failing engines, over stubs: what is final, tried again, or taken back."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import select

from service import aliases
from service.administration import engines as administered
from service.endpoints import Endpoints
from service.engines import planning, remote, supervisor, table, wanted
from service.engines.failures import NoRoom
from service.engines.planning import EnginePlan
from service.engines.slots import GIVE_UP
from service.engines.supervisor import GRACE_SECONDS, Supervisor
from service.store import database
from service.store.database import Store
from service.store.models import Alias, Audit, Engine
from tests.service.conftest import engine_row
from tests.support.supervising import ALIAS, Machine
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError

unit = pytest.mark.unit


@unit
def test_a_busy_engine_is_never_given_up(machine_: Machine) -> None:
    machine_.promote("a")
    machine_.stubs.faults["a"] = "busy"
    machine_.supervisor()
    machine_.run(rounds=2 * GIVE_UP)
    (row,) = machine_.rows("a")
    assert (row.state, row.given_up) == ("failed", False)
    assert "503" in (row.detail or "")
    machine_.stubs.faults.clear()
    machine_.run()
    assert machine_.rows("a")[0].state == "ready"
    assert machine_.alias() == ("a", "a")


@unit
def test_an_engine_behind_a_proxy_that_answers_for_it_is_waited_for(machine_: Machine) -> None:
    """200 with something else says nothing of the checkpoint, and the reason is a sentence."""
    machine_.promote("a")
    stub, url = machine_.stubs.add(_checkpoint(machine_, "a"), fault="garbage")
    machine_.supervisor(remote_urls={"a": [url]})
    machine_.run(rounds=2 * GIVE_UP)
    (row,) = machine_.rows("a")
    assert (row.state, row.given_up) == ("failed", False)
    assert "answered /tokenize with something that cannot be read" in (row.detail or "")
    stub.fault = ""
    machine_.run()
    assert machine_.alias() == ("a", "a")


@unit
@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda m: m.stubs.faults.update(b="wrong"), "does not reproduce its probe"),
        (lambda m: m.stubs.faults.update(b="Model architectures ['X'] are not supported for now."), "not supported"),
        (lambda m: _replace(m, "model.safetensors", b"other weights"), "is not the file that was published"),
        (lambda m: _replace(m, "model.safetensors", None), "lacks its weights"),
        (lambda m: shutil.rmtree(m.settings.checkpoints / "b"), "no checkpoint 'b'"),
        (lambda m: m.stubs.faults.update(b="refuses"), "refused"),
        (lambda m: _replace(m, "config.json", b"{"), "config.json"),
    ],
)
def test_a_target_that_cannot_be_served_is_taken_back(
    machine_: Machine, damage: Callable[[Machine], object], reason: str
) -> None:
    machine_.promote("a")
    one = machine_.supervisor()
    machine_.run()
    machine_.promote("b")
    damage(machine_)
    machine_.run(rounds=GIVE_UP + 1)
    assert machine_.alias() == ("a", "a")
    with machine_.store.session() as session:
        assert reason in (session.get_one(Alias, ALIAS).note or "")
        assert session.scalars(select(Audit.action).order_by(Audit.id.desc())).first() == "take_back"
    assert "b was taken back" in one.output.getvalue()
    assert machine_.stubs.of("a")
    assert not machine_.stubs.of("b")
    machine_.run(rounds=2)
    assert machine_.rows("b") == []


def _replace(machine_: Machine, name: str, content: bytes | None) -> None:
    file = machine_.settings.checkpoints / "b" / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)


@unit
def test_a_start_given_up_is_tried_when_it_is_wanted_anew(machine_: Machine) -> None:
    machine_.supervisor(serve=["a"])
    machine_.stubs.faults["a"] = "wrong"
    machine_.run(rounds=3)
    assert len(machine_.stubs.started) == 1
    assert machine_.rows("a")[0].given_up
    machine_.stubs.faults.clear()
    machine_.run(rounds=3)
    assert len(machine_.stubs.started) == 1, "nothing changed"
    with machine_.store.session() as session:
        administered.request_engine(session, machine_.settings.checkpoints, "a", "me")
    machine_.run()
    assert machine_.rows("a")[0].state == "ready"


@unit
def test_the_same_failure_again_and_again_is_given_up_unless_it_has_answered(machine_: Machine) -> None:
    machine_.supervisor(serve=["a", "b", "c"])
    machine_.run()
    machine_.stubs.faults["a"] = machine_.stubs.faults["b"] = "RuntimeError: lost device 7 (pid 4711)"
    for stub in machine_.stubs.of("a"):
        stub.up = False  # it has answered, and crashes
    with machine_.store.session() as session:  # b and c start anew
        session.query(Engine).delete()
    fresh = machine_.supervisor("two", serve=["b"])
    machine_.supervisors.remove(fresh)
    for number in range(GIVE_UP + 2):
        machine_.stubs.faults["b"] = f"RuntimeError: lost device {number} (pid {4711 + number})"
        machine_.time += 70
        for one in (*machine_.supervisors, fresh):
            one.tick()
            one.work()
            one.tick()
    assert [slot.given_up for slot in fresh.slots.values()] == [True], "numbers do not make it another failure"
    assert not machine_.supervisors[0].slots["a", ""].given_up
    fresh.store.close()


@unit
def test_failures_of_different_kinds_do_not_count_together(machine_: Machine) -> None:
    machine_.supervisor(serve=["a"])
    for words in ("RuntimeError: one", "RuntimeError: other") * GIVE_UP:
        machine_.stubs.faults["a"] = words
        machine_.run()
    assert not machine_.rows("a")[0].given_up


@unit
def test_a_target_is_taken_back_when_no_supervisor_can_serve_it(machine_: Machine) -> None:
    machine_.promote("a")
    first, second = machine_.supervisor("one"), machine_.supervisor("two")
    machine_.run()
    machine_.promote("b")
    machine_.stubs.faults["b"] = "wrong"
    machine_.time += 1
    first.tick()
    first.work()
    first.tick()
    machine_.stubs.faults["b"] = "busy"
    machine_.time += 10
    for _ in range(3):
        machine_.time += 70
        second.tick()
        second.work()
        second.tick()
        first.tick()
    assert machine_.alias() == ("b", "a"), "the second still tries"
    machine_.stubs.faults["b"] = "wrong"
    machine_.run()
    first.tick()
    assert machine_.alias() == ("a", "a")


@unit
def test_what_serves_stays_a_little_when_nothing_names_it(machine_: Machine) -> None:
    machine_.promote("a")
    one = machine_.supervisor()
    machine_.run()
    machine_.promote("b")
    machine_.run()
    assert machine_.alias() == ("b", "b")
    machine_.time += GRACE_SECONDS / 2
    one.tick()
    assert machine_.rows("a")[0].state == "ready", "a gateway may not have read the alias yet"
    machine_.time += GRACE_SECONDS
    one.tick()
    assert machine_.rows("a")[0].state == "draining"
    one.work()
    one.tick()
    assert machine_.rows("a") == []


@unit
def test_want_of_memory_is_tried_again_when_an_engine_has_left(
    machine_: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one: the second is given up, and starts when the first has left."""
    real = planning.plans_for

    def plans_for(checkpoints: Any, *arguments: Any, **keywords: Any) -> Any:
        if len(checkpoints) + len(machine_.stubs.of("a")) + len(machine_.stubs.of("b")) > 1:
            raise NoRoom("memory does not hold these engines")
        return real(checkpoints, *arguments, **keywords)

    monkeypatch.setattr(planning, "plans_for", plans_for)
    with machine_.store.session() as session:
        for checkpoint in ("a", "b"):
            administered.request_engine(session, machine_.settings.checkpoints, checkpoint, "me")
    machine_.supervisor()
    machine_.run(rounds=GIVE_UP + 2)
    assert [row.given_up for row in machine_.rows("b")] == [True]
    with machine_.store.session() as session:
        administered.withdraw_request(session, "a", "me")
    machine_.run(rounds=4)
    assert [row.state for row in machine_.rows("b")] == ["ready"]


@unit
def test_options_are_kept_planned_and_carried_on(machine_: Machine) -> None:
    one = machine_.supervisor()
    machine_.promote("a", options={"tool_call_parser": "hermes", "tensor_parallel_size": 2})
    machine_.run()
    machine_.promote("b")
    machine_.run()
    machine_.promote("c", options={})
    machine_.run(rounds=3)
    plans = dict(machine_.stubs.started)
    assert plans["a"].options == plans["b"].options == {"tool_call_parser": "hermes", "tensor_parallel_size": 2}
    assert plans["c"].options == {}
    assert machine_.rows("c")[0].plan["options"] == {}
    with machine_.store.session() as session:
        aliases.rollback(session, ALIAS, "me")
    machine_.run(rounds=2)
    assert machine_.stubs.started[-1][0] == "b"
    assert machine_.stubs.started[-1][1].options == plans["b"].options
    assert "tool_call_parser=hermes" in one.output.getvalue()
    with pytest.raises(UserError, match="not an option of a checkpoint"):
        machine_.promote("a", options={"host": "0.0.0.0"})


@unit
def test_replicas_elsewhere_with_keys_and_their_own_context(
    machine_: Machine, app_client: Callable[..., TestClient]
) -> None:
    a, short, long_ = _checkpoint(machine_, "a"), 100, 10**6
    first, first_url = machine_.stubs.add(a, key="k1", context=short)
    second, second_url = machine_.stubs.add(a, context=long_)
    _, third_url = machine_.stubs.add(a, key="another", context=short)
    machine_.settings = machine_.settings.model_copy(update={"engine_keys": {first_url + "/v1/": SecretStr("k1")}})
    machine_.promote("a")
    one = machine_.supervisor(remote_urls={"a": [first_url, second_url, third_url]})
    machine_.run(rounds=1)
    rows = {row.url: row for row in machine_.rows("a")}
    assert [rows[url].state for url in (first_url, second_url, third_url)] == ["ready", "ready", "failed"]
    assert [rows[url].manifest["context"] for url in (first_url, second_url)] == [short, a.manifest.context]
    assert "k1" not in json.dumps([[row.manifest, row.detail, row.plan] for row in rows.values()])
    assert machine_.stubs.started == []
    client = app_client(open=True, engine_keys={first_url: "k1"})
    for stub in (first, second):
        stub.headers = {}
    endpoints: Endpoints = client.app.state.endpoints  # type: ignore[attr-defined]
    for busy in endpoints.candidates(ALIAS, "policy"):
        other = [e for e in endpoints.candidates(ALIAS, "policy") if e.url != busy.url]
        with endpoints.busy(busy, 9):
            body = {"model": ALIAS, "prompt": "x", "max_tokens": 1}
            assert client.post("/v1/completions", json=body).status_code == 200
        assert other
    assert first.headers["Authorization"] == "Bearer k1"
    assert "Authorization" not in second.headers
    first.up = False
    for _ in range(12):
        machine_.run(seconds=6)
    assert machine_.rows("a")
    states = {row.url: (row.state, row.given_up) for row in machine_.rows("a")}
    assert states[first_url] == ("failed", False), "a server elsewhere that is down is waited for"
    assert states[second_url] == ("ready", False)
    first.up = True
    machine_.run(rounds=2)
    assert {row.url: row.state for row in machine_.rows("a")}[first_url] == "ready"
    assert one.slots


def _checkpoint(machine_: Machine, name: str) -> Checkpoint:
    from training.artifacts.checkpoints import load

    return load(machine_.settings.checkpoints / name)


@unit
def test_engines_elsewhere_that_hang_hold_nobody_up(machine_: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    a = _checkpoint(machine_, "a")
    stubs_ = [machine_.stubs.add(a) for _ in range(8)]
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.0)
    one = Supervisor(machine_.settings, [], {"a": [url for _, url in stubs_]})
    try:
        deadline = time.monotonic() + 60
        while [row.state for row in machine_.rows("a")].count("ready") < 8:
            assert time.monotonic() < deadline
            one.tick()
            time.sleep(0.05)
        for stub, _ in stubs_[1:]:
            stub.fault = "hung"
        longest, beaten = 0.0, time.monotonic()
        while [row.state for row in machine_.rows("a")].count("ready") > 1:
            assert time.monotonic() - beaten < 60, "three unanswered checks of two seconds"
            began = time.monotonic()
            one.tick()
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.05)
        assert longest < 2, "the time of a single check that hangs"
        assert {row.url for row in machine_.rows("a") if row.state == "ready"} == {stubs_[0][1]}
    finally:
        one.stop.set()
        one._end()


@unit
def test_the_heart_beats_while_a_tick_hangs(machine_: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on after any failure of the supervisor's own."""
    one = Supervisor(machine_.settings, [], {})
    one.name = "one"
    with machine_.store.session() as session:
        row = engine_row("a")
        row.supervisor = "one"
        session.add(row)
        session.flush()
        before = row.heartbeat
    hold, failed = threading.Event(), threading.Event()

    def tick() -> None:
        if not failed.is_set():
            failed.set()
            raise ValueError("an odd row")
        hold.wait(30)

    monkeypatch.setattr(one, "tick", tick)
    monkeypatch.setattr(supervisor, "BEAT_SECONDS", 0.05)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while machine_.rows("a")[0].heartbeat <= before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert failed.is_set()
    finally:
        hold.set()
        one.stop.set()
        thread.join()


def test_clocks_of_machines_may_differ(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL the heartbeat is the server's time: a supervisor an hour ahead or behind is neither dead nor alive
    for longer."""
    if store.engine.dialect.name == "sqlite":
        pytest.skip("a file has one machine")
    from datetime import timedelta

    real = database.now
    for hours in (-1, 1):
        monkeypatch.setattr(database, "now", lambda hours=hours: real() + timedelta(hours=hours))
        with store.session() as session:
            row = engine_row(f"a{hours}")
            row.supervisor = "one"
            session.add(row)
            session.flush()
            table.beat(session, "one")
    monkeypatch.setattr(database, "now", real)
    endpoints = Endpoints(store)
    endpoints.refresh()
    assert set(endpoints.view.ready) == {"a-1", "a1"}


@unit
def test_addresses_of_engines() -> None:
    for text in ("a=http://gpu:8000", "a=http://gpu:8000/", "a=http://gpu:8000/v1", "a=http://gpu:8000/v1/"):
        assert remote.remote_engines([text]) == {"a": ["http://gpu:8000"]}
    assert remote.remote_engines(["a=http://x/v1//", "a=https://y", "a=http://x"]) == {"a": ["http://x", "https://y"]}
    for text in ("a", "a=", "=http://x", "a=gpu:8000", "a=http://", "a=http://x:port", "a=http://x?y=1"):
        with pytest.raises(UserError, match="is not ID=URL"):
            remote.remote_engines([text])


@unit
def test_what_is_wanted_is_read_whole(local_store: Store) -> None:
    with local_store.session() as session:
        aliases.promote(session, ALIAS, "b", "me")
        wanted.request(session, "c", "me")
        now = wanted.read(session)
    assert now.checkpoints("d") == ["d", "c", "b"]
    assert now.served == []
    assert EnginePlan("b", 1).options == {}
