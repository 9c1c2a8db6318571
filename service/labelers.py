"""Labelers and their sessions in the store."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from service.errors import ApiError, Conflict
from service.keys import digest
from service.names import clean_text
from service.store.models import Answer, Labeler, LabelerSession, Task, now

VISITOR = "visitor "  # how the names of those begin who came without a token, in open mode


@dataclass(frozen=True)
class SignedIn:
    """A labeler's session. `csrf` is the token that pages put into their requests."""

    labeler_id: str
    name: str
    pseudonym: str
    group: str | None
    csrf: str


def add_labeler(session: Session, name: str, group: str | None = None) -> tuple[Labeler, str]:
    """Add a labeler. Returns the row and the sign-in token, which cannot be read again.

    Raises:
        Conflict: the name is taken.
        UserError: name or group are not a line of text.
    """
    name = clean_text(name, "the labeler's name", 200)
    group = None if group is None else clean_text(group, "the group", 40)
    if session.scalar(select(Labeler.id).where(Labeler.name == name)):
        raise Conflict(f"there is a labeler {name!r} already: choose another name")
    token = secrets.token_urlsafe(32)
    labeler = Labeler(name=name, pseudonym=f"labeler-{secrets.token_hex(6)}", group=group, token_hash=digest(token))
    session.add(labeler)
    session.flush()
    return labeler, token


def add_visitor(session: Session, hours: float) -> tuple[str, SignedIn]:
    """A labeler without a token, and a session. Returns what `open_session` does."""
    _forget_visitors(session)
    return open_session(session, add_labeler(session, f"{VISITOR}{secrets.token_hex(6)}")[0], hours)


def open_session(session: Session, labeler: Labeler, hours: float) -> tuple[str, SignedIn]:
    """Start a session; those that have expired are deleted. Returns the cookie's secret and the session."""
    session.execute(delete(LabelerSession).where(LabelerSession.expires <= now()))
    secret = secrets.token_urlsafe(32)
    row = LabelerSession(
        secret_hash=digest(secret),
        labeler_id=labeler.id,
        csrf=secrets.token_urlsafe(24),
        expires=now() + timedelta(hours=hours),
    )
    session.add(row)
    session.flush()
    return secret, _signed(labeler, row)


def sign_in(session: Session, token: str, hours: float) -> tuple[str, SignedIn]:
    """Exchange a labeler's sign-in token for a session. Raises `ApiError` 401."""
    labeler = session.scalar(select(Labeler).where(Labeler.token_hash == digest(token.strip())))
    if labeler is None or labeler.disabled:
        raise ApiError(401, "the sign-in token is wrong or disabled", code="invalid_token")
    return open_session(session, labeler, hours)


def find_session(session: Session, secret: str) -> SignedIn | None:
    """The session of a cookie's secret; None when it is unknown or has expired, or its labeler is disabled."""
    row = session.get(LabelerSession, digest(secret))
    if row is None or row.expires <= now():
        return None
    labeler = session.get_one(Labeler, row.labeler_id)
    return None if labeler.disabled else _signed(labeler, row)


def sign_out(session: Session, secret: str) -> None:
    """End the session of a cookie's secret."""
    session.execute(delete(LabelerSession).where(LabelerSession.secret_hash == digest(secret)))


def _forget_visitors(session: Session) -> None:
    """Delete visitors who never got a task and whose sessions have expired."""
    session.execute(delete(LabelerSession).where(LabelerSession.expires <= now()))
    session.execute(
        delete(Labeler)
        .where(
            Labeler.name.startswith(VISITOR),
            ~exists().where(LabelerSession.labeler_id == Labeler.id),
            ~exists().where(Task.labeler_id == Labeler.id),
            ~exists().where(Answer.labeler_id == Labeler.id),
        )
        .execution_options(synchronize_session=False)
    )


def _signed(labeler: Labeler, row: LabelerSession) -> SignedIn:
    return SignedIn(labeler.id, labeler.name, labeler.pseudonym, labeler.group, row.csrf)
