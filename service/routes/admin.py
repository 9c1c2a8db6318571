"""Administration over HTTP: keys and labelers. Everything leaves an audit row."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import auth
from service.auth import Caller, require
from service.errors import ApiError
from service.schemas import NewKey, NewLabeler
from service.store.models import Audit, Key, Labeler, now

router = APIRouter(prefix="/admin")
Admin = Annotated[Caller, Depends(require("admin"))]

# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("/keys")
def keys(request: Request, caller: Admin) -> dict[str, Any]:
    """Keys without their secrets."""
    with request.app.state.store.session() as session:
        return {"data": [_key(row) for row in session.scalars(select(Key).order_by(Key.created))]}


@router.post("/keys", status_code=201)
def add_key(request: Request, body: NewKey, caller: Admin) -> dict[str, Any]:
    """Add a key. `key` is shown this once."""
    with request.app.state.store.session() as session:
        row, secret = auth.add_key(session, body.name, body.scopes, body.days)
        _audit(session, caller, "add_key", row.name)
        return _key(row) | {"key": secret}


@router.delete("/keys/{key}")
def revoke_key(request: Request, key: str, caller: Admin) -> dict[str, Any]:
    """Revoke a key by id; gateways follow within a second."""
    with request.app.state.store.session() as session:
        row = session.get(Key, key)
        if row is None:
            raise ApiError(404, f"no key {key!r}", code="not_found")
        row.revoked = row.revoked or now()
        _audit(session, caller, "revoke_key", row.name)
        return _key(row)


@router.post("/labelers", status_code=201)
def add_labeler(request: Request, body: NewLabeler, caller: Admin) -> dict[str, Any]:
    """Add a labeler. `token` signs in at /sign-in and is shown this once."""
    with request.app.state.store.session() as session:
        row, token = auth.add_labeler(session, body.name, body.group)
        _audit(session, caller, "add_labeler", row.pseudonym)
        return {"id": row.id, "name": row.name, "pseudonym": row.pseudonym, "group": row.group, "token": token}


@router.delete("/labelers/{labeler}")
def disable_labeler(request: Request, labeler: str, caller: Admin) -> dict[str, Any]:
    """Disable a labeler by id; their sessions end."""
    with request.app.state.store.session() as session:
        row = session.get(Labeler, labeler)
        if row is None:
            raise ApiError(404, f"no labeler {labeler!r}", code="not_found")
        row.disabled = row.disabled or now()
        _audit(session, caller, "disable_labeler", row.pseudonym)
        return {"id": row.id, "disabled": row.disabled.isoformat()}


def _audit(session: Session, caller: Caller, action: str, subject: str) -> None:
    session.add(Audit(actor=caller.name, action=action, subject=subject))


def _key(row: Key) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "created": row.created.isoformat(),
        "expires": row.expires.isoformat() if row.expires else None,
        "revoked": row.revoked.isoformat() if row.revoked else None,
    }
