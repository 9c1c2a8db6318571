"""Promotion and rollback in the store, and how gateways and supervisors read them. On SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from service import aliases
from service.endpoints import STALE, Endpoints
from service.engines import desired
from service.errors import ApiError
from service.store.database import Store
from service.store.models import Alias, Audit, now
from tests.service.conftest import engine_row
from training.artifacts.errors import UserError

ALIAS = "policy/production"


def test_promotion_is_compare_and_swap_with_an_audit_row(store: Store) -> None:
    with store.session() as session:
        assert aliases.promote(session, ALIAS, "a", "me").version == 1
    with store.session() as session:
        assert aliases.promote(session, ALIAS, "b", "me", version=1).version == 2
    with pytest.raises(UserError, match="changed by somebody else"), store.session() as session:
        aliases.promote(session, ALIAS, "c", "me", version=1)
    with store.session() as session:
        assert session.get_one(Alias, ALIAS).checkpoint == "b"
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
        assert [row.detail["checkpoint"] for row in rows] == ["a", "b"]


def test_two_first_promotions_at_once(store: Store) -> None:
    with store.session() as session:
        aliases.promote(session, ALIAS, "a", "me", version=0)
    with pytest.raises(UserError, match="changed by somebody else"), store.session() as session:
        aliases.promote(session, ALIAS, "b", "me", version=0)


def test_rollbacks_go_back_step_by_step(store: Store) -> None:
    with store.session() as session:
        for checkpoint in ("a", "b", "c"):
            aliases.promote(session, ALIAS, checkpoint, "me")
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "b"
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "a"
        with pytest.raises(UserError, match="no earlier checkpoint"):
            aliases.rollback(session, ALIAS, "me")
        aliases.promote(session, ALIAS, "d", "me")
        assert aliases.rollback(session, ALIAS, "me").checkpoint == "a"


@pytest.mark.unit
@pytest.mark.parametrize("name", ["production", "policy/", "policy/A", "judge/x", "policy/../x", "policy/a/b"])
def test_names_of_aliases(name: str) -> None:
    with pytest.raises(UserError, match="is not an alias"):
        aliases.check_name(name)


def test_an_alias_moves_only_when_its_checkpoint_is_served(store: Store) -> None:
    endpoints = Endpoints(store)
    with store.session() as session:
        aliases.promote(session, ALIAS, "old", "me")
        aliases.promote(session, ALIAS, "new", "me")
        session.add(engine_row("old"))
        session.add(engine_row("new", state="starting"))
    endpoints.refresh()
    assert endpoints.find(ALIAS, "policy").checkpoint == "old"
    with store.session() as session:
        session.add(engine_row("new"))
    endpoints.refresh()
    assert endpoints.find(ALIAS, "policy").checkpoint == "new"


def test_engines_of_a_dead_supervisor_are_not_used(store: Store) -> None:
    endpoints = Endpoints(store)
    with store.session() as session:
        row = engine_row("a")
        row.heartbeat = now() - STALE - timedelta(seconds=1)
        session.add(row)
    endpoints.refresh()
    with pytest.raises(ApiError) as caught:
        endpoints.find("a", "policy")
    assert caught.value.status == 404


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
        with endpoints.busy(second, limit=1), pytest.raises(ApiError) as caught:
            endpoints.busy(endpoints.find("a", "policy"), limit=1).__enter__()
        assert caught.value.status == 503
    assert not +endpoints.running


def test_requested_engines(store: Store) -> None:
    with store.session() as session:
        desired.request(session, "a")
        desired.request(session, "a")
        desired.request(session, "b")
        assert desired.requested(session) == ["a", "b"]
        assert desired.withdraw(session, "a")
        assert not desired.withdraw(session, "a")
        assert desired.requested(session) == ["b"]
