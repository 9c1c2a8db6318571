"""Promotion and rollback in the store, and how gateways read them. On SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

import service.endpoints
from service import aliases
from service.administration import engines
from service.endpoints import OLD_SECONDS, STALE, Endpoints
from service.engines import wanted
from service.errors import ApiError, Conflict, NotFound
from service.store.database import Store, clock
from service.store.models import Alias, Audit, Engine
from tests.service.conftest import engine_row
from training.artifacts.errors import UserError

ALIAS = "policy/production"


def serve(session: Session) -> None:
    """What a supervisor does when the target's engine has proved itself."""
    assert aliases.serve(session, ALIAS, session.get_one(Alias, ALIAS).version, "supervisor")


def promote(session: Session, *checkpoints: str) -> None:
    """Promote and serve one after the other."""
    for checkpoint in checkpoints:
        aliases.promote(session, ALIAS, checkpoint, "me")
        serve(session)


def state(session: Session) -> tuple[str, str | None, int]:
    row = session.get_one(Alias, ALIAS)
    return row.checkpoint, row.served, row.version


def test_promotion_is_compare_and_swap_with_an_audit_row(store: Store) -> None:
    with store.session() as session:
        assert aliases.promote(session, ALIAS, "a", "me").version == 1
    with store.session() as session:
        assert aliases.promote(session, ALIAS, "b", "me", version=1).version == 2
    with pytest.raises(Conflict, match="changed by somebody else"), store.session() as session:
        aliases.promote(session, ALIAS, "c", "me", version=1)
    with store.session() as session:
        assert state(session) == ("b", None, 2)
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
        assert [row.detail["checkpoint"] for row in rows] == ["a", "b"]


def test_two_first_promotions_at_once(store: Store) -> None:
    with store.session() as session:
        aliases.promote(session, ALIAS, "a", "me", version=0)
    with pytest.raises(Conflict, match="changed by somebody else"), store.session() as session:
        aliases.promote(session, ALIAS, "b", "me", version=0)


def test_what_serves_changes_once_and_only_for_the_version_that_was_seen(store: Store) -> None:
    with store.session() as session:
        promote(session, "a")
        aliases.promote(session, ALIAS, "b", "me")
        assert not aliases.serve(session, ALIAS, 1, "late"), "of an earlier version"
        assert state(session) == ("b", "a", 2)
        serve(session)
        assert state(session) == ("b", "b", 2)
        assert not aliases.serve(session, ALIAS, 2, "second supervisor")
        served = session.scalars(select(Audit).where(Audit.action == "served").order_by(Audit.id)).all()
        assert [(row.actor, row.detail["checkpoint"], row.detail["previous"]) for row in served] == [
            ("supervisor", "a", None),
            ("supervisor", "b", "a"),
        ]


def test_a_rollback_keeps_what_serves_until_the_other_one_does(store: Store) -> None:
    with store.session() as session:
        promote(session, "a", "b")
        aliases.rollback(session, ALIAS, "me")
        assert state(session) == ("a", "b", 3)
        assert wanted.read(session).checkpoints() == ["b", "a"], "what serves comes first"
        serve(session)
        assert state(session) == ("a", "a", 3)


def test_rollbacks_go_back_step_by_step(store: Store) -> None:
    with store.session() as session:
        promote(session, "a", "b", "c")
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "b"
        serve(session)
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "a"
        serve(session)
        with pytest.raises(UserError, match="no earlier checkpoint"):
            aliases.rollback(session, ALIAS, "me")
        promote(session, "d")
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "a"


def test_two_rollbacks_at_once_go_back_two_steps_before_either_is_served(store: Store) -> None:
    with store.session() as session:
        promote(session, "a", "b", "c")
        aliases.rollback(session, ALIAS, "me")
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "a"
        assert state(session)[1] == "c"


def test_a_rollback_never_goes_to_what_never_served(store: Store) -> None:
    with store.session() as session:
        promote(session, "a", "b")
        aliases.promote(session, ALIAS, "broken", "me")
        assert aliases.take_back(session, ALIAS, 3, "no such file", "supervisor")
        promote(session, "c")
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "b"


def test_a_rollback_calls_a_promotion_in_progress_off(store: Store) -> None:
    with store.session() as session:
        promote(session, "a", "b")
        aliases.promote(session, ALIAS, "c", "me")
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "b"
        assert state(session)[:2] == ("b", "b")


def test_the_same_checkpoint_again_after_another(store: Store) -> None:
    with store.session() as session:
        promote(session, "a", "b", "a")
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "b"
        serve(session)
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "a"


def test_history_of_an_earlier_version_is_understood(store: Store) -> None:
    with store.session() as session:
        session.add(Alias(name=ALIAS, checkpoint="c", served="c", version=3))
        for previous, checkpoint in ((None, "a"), ("a", "b"), ("b", "c")):
            detail = {"checkpoint": checkpoint, "previous": previous, "version": 1}
            session.add(Audit(actor="me", action="promote", subject=ALIAS, detail=detail))
            session.flush()
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "b"


def test_what_fails_is_taken_back_to_exactly_what_was(store: Store) -> None:
    with store.session() as session:
        promote(session, "a", "b", "c")
        aliases.promote(session, ALIAS, "broken", "me")
        assert aliases.take_back(session, ALIAS, 4, "its weights are missing", "supervisor")
        assert state(session) == ("c", "c", 5)
        assert session.get_one(Alias, ALIAS).note == "broken was taken back: its weights are missing"
        aliases.rollback(session, ALIAS, "me")
        assert aliases.take_back(session, ALIAS, 6, "gone", "supervisor")
        assert state(session) == ("c", "c", 7), "a rollback that fails does not jump, and removes nothing"
        assert aliases.take_back(session, ALIAS, 7, "x", "supervisor") is None, "nothing is pending"
        aliases.promote(session, ALIAS, "c", "me")
        assert session.get_one(Alias, ALIAS).note is None


def test_a_first_promotion_that_fails_leaves_nothing(store: Store) -> None:
    with store.session() as session:
        aliases.promote(session, ALIAS, "broken", "me")
        assert "is removed" in (aliases.take_back(session, ALIAS, 1, "x", "supervisor") or "")
        assert session.get(Alias, ALIAS) is None
        with pytest.raises(NotFound):
            aliases.rollback(session, ALIAS, "me")


def test_what_was_there_before_anything_served_is_kept(store: Store) -> None:
    with store.session() as session:
        aliases.promote(session, ALIAS, "a", "me")
        aliases.promote(session, ALIAS, "broken", "me")
        aliases.take_back(session, ALIAS, 2, "x", "supervisor")
        assert state(session) == ("a", None, 3)
        assert aliases.take_back(session, ALIAS, 3, "x", "supervisor") is None, "the alias existed before"
        assert state(session) == ("a", None, 3)


def test_nothing_is_taken_back_that_moved_on(store: Store) -> None:
    with store.session() as session:
        promote(session, "a")
        aliases.promote(session, ALIAS, "broken", "me")
        aliases.promote(session, ALIAS, "b", "me")
        assert aliases.take_back(session, ALIAS, 2, "x", "supervisor") is None
        assert state(session) == ("b", "a", 3)


def test_removal(store: Store) -> None:
    with store.session() as session:
        promote(session, "a", "b")
    with pytest.raises(Conflict), store.session() as session:
        aliases.remove(session, ALIAS, "me", version=1)
    with store.session() as session:
        aliases.remove(session, ALIAS, "me")
        with pytest.raises(NotFound):
            aliases.remove(session, ALIAS, "me")
        promote(session, "c")
        with pytest.raises(UserError, match="no earlier"):
            aliases.rollback(session, ALIAS, "me")


@pytest.mark.unit
@pytest.mark.parametrize("name", ["production", "policy/", "policy/A", "judge/x", "policy/../x", "policy/a/b"])
def test_names_of_aliases(name: str) -> None:
    with pytest.raises(UserError, match="is not an alias"):
        aliases.check_name(name)


def test_requests_go_to_what_serves_and_to_nothing_else(store: Store) -> None:
    endpoints = Endpoints(store)
    with store.session() as session:
        aliases.promote(session, ALIAS, "old", "me")
        session.add(engine_row("old"))
    endpoints.refresh()
    with pytest.raises(ApiError) as caught:
        endpoints.find(ALIAS, "policy")
    assert caught.value.status == 503, "ready, but its supervisor has not let it serve"
    with store.session() as session:
        serve(session)
        aliases.promote(session, ALIAS, "new", "me")
        session.add(engine_row("new"))
    endpoints.refresh()
    assert endpoints.find(ALIAS, "policy").checkpoint == "old"
    assert endpoints.problems() == {}
    with store.session() as session:
        serve(session)
    endpoints.refresh()
    assert endpoints.find(ALIAS, "policy").checkpoint == "new"


def test_a_crash_never_swaps_in_another_checkpoint(store: Store) -> None:
    endpoints = Endpoints(store)
    with store.session() as session:
        promote(session, "old", "new")
        session.add(engine_row("old"))
        crashed = engine_row("new", state="failed")
        crashed.detail = "out of memory"
        session.add(crashed)
    endpoints.refresh()
    with pytest.raises(ApiError) as caught:
        endpoints.find(ALIAS, "policy")
    assert (caught.value.status, caught.value.code) == (503, "model_not_ready")
    assert endpoints.problems() == {ALIAS: "no engine of new is ready: out of memory"}


def test_engines_of_a_dead_supervisor_are_not_used(store: Store) -> None:
    endpoints = Endpoints(store)
    with store.session() as session:
        row = engine_row("a")
        row.heartbeat = clock(session) - STALE - timedelta(seconds=1)
        session.add(row)
    endpoints.refresh()
    with pytest.raises(ApiError) as caught:
        endpoints.find("a", "policy")
    assert caught.value.status == 404


def test_an_engine_that_answers_stays_while_its_supervisor_cannot_write(store: Store) -> None:
    """Another program holds the database's lock, or the database was away, for longer than a heartbeat lasts."""
    asked: list[tuple[str, str]] = []
    up = True

    def answers(url: str, checkpoint: str) -> bool:
        asked.append((url, checkpoint))
        return up

    endpoints, later = Endpoints(store, answers), Endpoints(store, answers)
    with store.session() as session:
        promote(session, "a")
        session.add(engine_row("a", url="http://one"))
        session.add(engine_row("b", url="http://two"))
    endpoints.refresh()
    assert asked == [], "its supervisor is heard of"
    with store.session() as session:
        session.execute(update(Engine).values(heartbeat=clock(session) - 3 * STALE))
        session.execute(update(Engine).where(Engine.checkpoint == "b").values(state="draining"))
    for _ in range(3):
        endpoints.refresh()
        assert endpoints.find(ALIAS, "policy").url == "http://one"
    assert set(asked) == {("http://one", "a")}
    later.refresh()
    assert not later.view.ready, "this one never used it: it may be long gone"
    up = False
    endpoints.refresh()
    with pytest.raises(ApiError):
        endpoints.find(ALIAS, "policy")
    up = True
    endpoints.refresh()
    assert not endpoints.view.ready, "gone, it comes back by a supervisor only"


def test_an_odd_row_hides_no_other(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    endpoints = Endpoints(store)
    odd = [
        {},
        {"stage": "sft"},
        {**engine_row("x").manifest, "stop_ids": None},
        {**engine_row("x").manifest, "path": 3},
        {**engine_row("x").manifest, "context": "long"},
        {**engine_row("x").manifest, "generation": None},
        {**engine_row("x").manifest, "generation": "greedy"},
        {**engine_row("x").manifest, "created": "yesterday"},
        {**engine_row("x").manifest, "created": 5},
        {**engine_row("x").manifest, "reward_offset": "none"},
        {**engine_row("x").manifest, "stop_ids": ["<|end|>"]},
        {**engine_row("x").manifest, "special": 5},
    ]
    with store.session() as session:
        promote(session, "a")
        session.add(engine_row("a"))
        for number, manifest in enumerate(odd):
            row = engine_row(f"odd-{number}")
            row.manifest = manifest
            session.add(row)
        session.add(engine_row("odd-kind", kind="judge"))
    endpoints.refresh()
    endpoints.refresh()
    assert endpoints.find(ALIAS, "policy").checkpoint == "a"
    assert len([r for r in caplog.records if "is left out" in r.message]) == len(odd) + 1, "once each"
    assert [checkpoint for checkpoint in endpoints.view.ready if checkpoint.startswith("odd")] == []
    with pytest.raises(ApiError) as caught:
        endpoints.find("odd-0", "policy")
    assert caught.value.status == 503


def test_a_table_that_is_not_read_any_more_is_a_problem(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = Endpoints(store)
    endpoints.refresh()
    assert endpoints.problems() == {}
    monkeypatch.setattr(endpoints, "_refreshed", endpoints._refreshed - OLD_SECONDS - 1)
    assert list(endpoints.problems()) == ["store"]


@pytest.mark.unit
def test_whatever_fails_the_table_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = Endpoints(Store("sqlite://"))
    failures: list[Exception] = [OperationalError("x", {}, ValueError()), KeyError("context"), RuntimeError("a bug")]
    reads = 0

    def refresh() -> None:
        nonlocal reads
        reads += 1
        if failures:
            raise failures.pop()

    async def play() -> None:
        following = asyncio.create_task(endpoints.follow())
        async with asyncio.timeout(10):
            while reads < 5:
                await asyncio.sleep(0.01)
        assert not following.done()
        following.cancel()

    monkeypatch.setattr(endpoints, "refresh", refresh)
    monkeypatch.setattr(service.endpoints, "REFRESH_SECONDS", 0.01)
    asyncio.run(play())


def test_replicas_share_the_load(store: Store) -> None:
    endpoints = Endpoints(store)
    with store.session() as session:
        session.add(engine_row("a", url="http://one"))
        session.add(engine_row("a", url="http://two"))
    endpoints.refresh()
    first = endpoints.find("a", "policy")
    with endpoints.busy(first, limit=1):
        second = endpoints.find("a", "policy")
        assert second.url != first.url
        assert [e.url for e in endpoints.candidates("a", "policy")] == [second.url, first.url]
        with endpoints.busy(second, limit=1), pytest.raises(ApiError) as caught:
            endpoints.busy(endpoints.find("a", "policy"), limit=1).__enter__()
        assert caught.value.status == 503
    assert not +endpoints.running


def test_requested_engines(store: Store) -> None:
    with store.session() as session:
        wanted.request(session, "a", "me")
        before = wanted.read(session).wishes["a"]
        wanted.request(session, "a", "me")
        assert wanted.read(session).wishes["a"] != before, "requested again, it is tried again"
        wanted.request(session, "b", "me")
        assert sorted(engines.requested(session)) == ["a", "b"]
        assert wanted.withdraw(session, "a")
        assert not wanted.withdraw(session, "a")
        assert engines.requested(session) == ["b"]
