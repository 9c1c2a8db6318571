"""Four faults of aliases that were mended, each put back alone: the histories must show every one."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from service import aliases
from service.endpoints import Endpoints, View
from service.engines.supervisor import Supervisor
from service.engines.wanted import Demand
from service.store.models import Alias, Audit, Engine


def rollback_that_takes_effect_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rollback nothing names what serves."""
    real = aliases.rollback

    def rollback(*arguments: Any, **keywords: Any) -> Alias:
        row = real(*arguments, **keywords)
        row.served = row.checkpoint
        return row

    monkeypatch.setattr(aliases, "rollback", rollback)


def undone_from_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is undone by what was promoted before it, or by removing the alias."""

    def take_back(session: Any, alias: str, version: int, reason: str, actor: str) -> str | None:
        row = session.get(Alias, alias)
        if row is None or row.version != version:
            return None
        audit = select(Audit).where(Audit.subject == alias, Audit.action.in_(("promote", "rollback")))
        stack: list[str] = []
        for change in session.scalars(audit.order_by(Audit.id)):
            target, previous = change.detail["checkpoint"], change.detail["previous"]
            if change.action == "rollback" and target in stack:
                del stack[stack.index(target) :]
            elif previous and previous != target:
                stack.append(previous)
        if stack:
            aliases.promote(session, alias, stack[-1], actor, version=version, action="rollback")
        else:
            aliases.remove(session, alias, actor, version=version)
        return "undone"

    monkeypatch.setattr(aliases, "take_back", take_back)


def wanted_while_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """What serves beside another target is wanted only as long as its engine is ready."""

    def to_serve(supervisor: Supervisor, now_wanted: Demand) -> list[str]:
        with supervisor.store.session() as session:
            ready = set(session.scalars(select(Engine.checkpoint).where(Engine.state == "ready")))
        targets = [target.checkpoint for target in now_wanted.targets]
        return list(dict.fromkeys([*(c for c in now_wanted.served if c in ready), *now_wanted.requested, *targets]))

    monkeypatch.setattr(Supervisor, "_to_serve", to_serve)


def fallback_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alias whose engine is down means what it was promoted to before, as long as that is ready."""
    real = Endpoints.refresh

    def refresh(endpoints: Endpoints) -> None:
        real(endpoints)
        view = endpoints.view
        named = dict(view.aliases)
        with endpoints._store.session() as session:
            for alias in named:
                audit = select(Audit).where(Audit.subject == alias, Audit.action == "served").order_by(Audit.id.desc())
                before = [row.detail["checkpoint"] for row in session.scalars(audit)]
                named[alias] = next((c for c in (named[alias], *before) if c in view.ready), named[alias])
        endpoints.view = View(view.ready, named, view.targets, view.states, view.failures)

    monkeypatch.setattr(Endpoints, "refresh", refresh)
