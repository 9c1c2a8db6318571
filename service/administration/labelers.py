"""Labelers: add, list, disable and enable, a new token for a lost one, and whether their answers count."""

from __future__ import annotations

import secrets
from typing import Literal

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from service import labelers
from service.administration.records import record
from service.errors import NotFound
from service.keys import digest
from service.preferences import answers
from service.store.models import Labeler, LabelerSession, Task, now
from training.artifacts.errors import UserError


class LabelerRow(TypedDict):
    """A labeler without the token; times in ISO 8601."""

    id: str
    name: str
    pseudonym: str
    group: str | None
    created: str
    disabled: str | None
    excluded: str | None


class CountedLabeler(LabelerRow):
    """A labeler with answered tasks, and answers that were changed or withdrawn after names were shown."""

    answered: int
    revised: int
    withdrawn: int


def add(session: Session, actor: str, name: str, group: str | None = None) -> tuple[LabelerRow, str]:
    """Add a labeler. Returns the description and the sign-in token, which cannot be read again.

    Raises:
        Conflict: the name is taken.
        UserError: it is not a name, or looks like a visitor's, who is forgotten when the session ends.
    """
    if name.strip().startswith(labelers.VISITOR):
        raise UserError(
            f"names that begin with {labelers.VISITOR!r} are those of visitors in open mode: choose another"
        )
    row, token = labelers.add_labeler(session, name, group)
    record(session, actor, "add_labeler", row.pseudonym, group=group)
    return described(row), token


def listed(session: Session) -> list[CountedLabeler]:
    """All labelers, with their answered tasks and with what they changed or withdrew after names were shown."""
    counted = select(Task.labeler_id, func.count()).where(Task.state == "answered").group_by(Task.labeler_id)
    answered = {row[0]: row[1] for row in session.execute(counted)}
    changed = {row.labeler: row for row in answers.changes(session)}
    rows: list[CountedLabeler] = []
    for row in session.scalars(select(Labeler).order_by(Labeler.created)):
        later = changed.get(row.pseudonym)
        rows.append(
            {
                **described(row),
                "answered": answered.get(row.id, 0),
                "revised": later.revised if later else 0,
                "withdrawn": later.withdrawn if later else 0,
            }
        )
    return rows


def disable(session: Session, actor: str, labeler: str) -> LabelerRow:
    """End a labeler's access; answers stay. Raises `NotFound`."""
    return _mark(session, actor, labeler, "disabled", True, "disable_labeler")


def enable(session: Session, actor: str, labeler: str) -> LabelerRow:
    """Let a disabled labeler in again, with the token that they have. Raises `NotFound`."""
    return _mark(session, actor, labeler, "disabled", False, "enable_labeler")


def reissue(session: Session, actor: str, labeler: str) -> tuple[LabelerRow, str]:
    """A new sign-in token. The one before stops working, and sessions that it opened end. Raises `NotFound`."""
    row = _find(session, labeler)
    token = secrets.token_urlsafe(32)
    row.token_hash = digest(token)
    session.execute(delete(LabelerSession).where(LabelerSession.labeler_id == row.id))
    record(session, actor, "reissue_token", row.pseudonym)
    return described(row), token


def exclude(session: Session, actor: str, labeler: str) -> LabelerRow:
    """Leave a labeler's answers, earlier and later ones, out of results and exports. Raises `NotFound`."""
    return _mark(session, actor, labeler, "excluded", True, "exclude_labeler")


def include(session: Session, actor: str, labeler: str) -> LabelerRow:
    """Count an excluded labeler's answers again. Raises `NotFound`."""
    return _mark(session, actor, labeler, "excluded", False, "include_labeler")


def described(row: Labeler) -> LabelerRow:
    """A labeler without the token."""
    return {
        "id": row.id,
        "name": row.name,
        "pseudonym": row.pseudonym,
        "group": row.group,
        "created": row.created.isoformat(),
        "disabled": row.disabled.isoformat() if row.disabled else None,
        "excluded": row.excluded.isoformat() if row.excluded else None,
    }


def _mark(
    session: Session, actor: str, labeler: str, mark: Literal["disabled", "excluded"], on: bool, action: str
) -> LabelerRow:
    """Set a mark with the time, or remove it; only what changes something is recorded."""
    row = _find(session, labeler)
    if (getattr(row, mark) is not None) != on:
        setattr(row, mark, now() if on else None)
        record(session, actor, action, row.pseudonym)
    return described(row)


def _find(session: Session, labeler: str) -> Labeler:
    """By name, pseudonym or id; a name wins over what looks like it."""
    same = or_(Labeler.id == labeler, Labeler.name == labeler, Labeler.pseudonym == labeler)
    rows = session.scalars(select(Labeler).where(same)).all()
    if not rows:
        raise NotFound(f"no labeler {labeler!r}: see `python -m service labelers list`")
    return next((row for row in rows if row.id == labeler), rows[0])
