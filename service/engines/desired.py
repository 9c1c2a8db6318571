"""Checkpoints that were asked for over HTTP: rows of the endpoint table in the state `wanted`."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from service.store.models import Engine, new_id

WANTED = "wanted"


def want(session: Session, checkpoint: str) -> None:
    """Ask for an engine of a checkpoint; asking twice is asking once."""
    if checkpoint not in listed(session):
        row = Engine(id=new_id(), checkpoint=checkpoint, kind="", url="", state=WANTED, supervisor="", manifest={})
        session.add(row)
        session.flush()


def unwant(session: Session, checkpoint: str) -> bool:
    """Take it back. Returns whether it had been asked for."""
    gone = session.execute(delete(Engine).where(Engine.state == WANTED, Engine.checkpoint == checkpoint))
    assert isinstance(gone, CursorResult)
    return bool(gone.rowcount)


def listed(session: Session) -> list[str]:
    """What is asked for, in order."""
    return list(session.scalars(select(Engine.checkpoint).where(Engine.state == WANTED).order_by(Engine.started)))
