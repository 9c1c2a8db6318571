"""A supervisor's rows in the endpoint table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.endpoints import STALE
from service.engines.slots import Slot
from service.store.database import clock
from service.store.models import Engine


def write(session: Session, supervisor: str, slots: Iterable[Slot]) -> None:
    """Bring a supervisor's rows up to date; nothing is written where nothing changed."""
    rows = {row.id: row for row in session.scalars(select(Engine).where(Engine.supervisor == supervisor))}
    for slot in slots:
        row = rows.pop(slot.row, None)
        if row is None:
            row = Engine(
                id=slot.row, checkpoint=slot.id, kind=slot.kind, url=slot.url, supervisor=supervisor, manifest={},
                heartbeat=clock(session),
            )  # fmt: skip
            session.add(row)
        if slot.engine is not None:
            row.kind, row.url, row.manifest = slot.engine.checkpoint.manifest.kind, slot.engine.url, dict(slot.manifest)
        row.state, row.detail, row.given_up = slot.state, slot.detail, slot.given_up
        row.plan = {} if slot.plan is None else asdict(slot.plan)
    for row in rows.values():
        session.delete(row)
    session.flush()


def beat(session: Session, supervisor: str) -> None:
    """Say that the supervisor is alive, and with it its engines."""
    session.execute(update(Engine).where(Engine.supervisor == supervisor).values(heartbeat=clock(session)))


def others(session: Session, supervisor: str) -> list[Engine]:
    """Rows of the other supervisors that are alive."""
    oldest = clock(session) - STALE
    rows = session.scalars(select(Engine).where(Engine.supervisor != supervisor))
    return [row for row in rows if row.heartbeat > oldest]


def forget_stale(session: Session) -> None:
    """Delete rows of supervisors that are gone."""
    session.execute(delete(Engine).where(Engine.heartbeat < clock(session) - STALE))


def mark_draining(session: Session, supervisor: str) -> None:
    """Have gateways send nothing more to a supervisor's engines."""
    session.execute(update(Engine).where(Engine.supervisor == supervisor).values(state="draining"))


def forget(session: Session, supervisor: str) -> None:
    """Delete a supervisor's rows."""
    session.execute(delete(Engine).where(Engine.supervisor == supervisor))
