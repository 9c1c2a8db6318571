"""API keys: add, list, revoke."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import or_, select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from service import keys
from service.administration.records import record
from service.errors import Conflict, NotFound
from service.store.models import Key, now


class KeyRow(TypedDict):
    """A key without its secret; times in ISO 8601."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created: str
    expires: str | None
    revoked: str | None


def add(
    session: Session, actor: str, name: str, scopes: Iterable[str], days: float | None = None
) -> tuple[KeyRow, str]:
    """Add a key. Returns its description and the key itself, which cannot be read again. Raises `UserError`."""
    row, secret = keys.add_key(session, name, scopes, days)
    record(session, actor, "add_key", row.name, key=row.prefix, scopes=row.scopes)
    return described(row), secret


def listed(session: Session) -> list[KeyRow]:
    """All keys without their secrets, oldest first."""
    return [described(row) for row in session.scalars(select(Key).order_by(Key.created))]


def revoke(session: Session, actor: str, key: str) -> KeyRow:
    """Revoke a key by id or prefix; gateways follow within a second.

    Raises:
        NotFound: no key has this id or prefix.
        Conflict: several have this prefix.
    """
    rows = session.scalars(select(Key).where(or_(Key.id == key, Key.prefix == key))).all()
    if not rows:
        raise NotFound(f"no key has the id or prefix {key!r}: see `python -m service keys list`")
    if len(rows) > 1:
        raise Conflict(f"{len(rows)} keys have the prefix {key!r}: give the id, see `python -m service keys list`")
    (row,) = rows
    if row.revoked is None:
        row.revoked = now()
        record(session, actor, "revoke_key", row.name, key=row.prefix)
    return described(row)


def described(row: Key) -> KeyRow:
    """A key without its secret."""
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "created": row.created.isoformat(),
        "expires": row.expires.isoformat() if row.expires else None,
        "revoked": row.revoked.isoformat() if row.revoked else None,
    }
