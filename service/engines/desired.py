"""Engines requested over HTTP: rows of the endpoint table in the state `wanted`."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from service.store.models import Engine, new_id

REQUESTED = "wanted"


def request(session: Session, checkpoint: str) -> None:
    """Ask for an engine of a checkpoint; asking again changes nothing."""
    if checkpoint not in requested(session):
        row = Engine(id=new_id(), checkpoint=checkpoint, kind="", url="", state=REQUESTED, supervisor="", manifest={})
        session.add(row)
        session.flush()


def withdraw(session: Session, checkpoint: str) -> bool:
    """Withdraw the request for an engine of a checkpoint. Returns whether there was one."""
    result = session.execute(delete(Engine).where(Engine.state == REQUESTED, Engine.checkpoint == checkpoint))
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)


def requested(session: Session) -> list[str]:
    """Checkpoints with a requested engine, in the order of the requests."""
    return list(session.scalars(select(Engine.checkpoint).where(Engine.state == REQUESTED).order_by(Engine.started)))
