"""API keys over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from service.administration import keys
from service.auth import Admin
from service.schemas import NewKey
from service.state import gateway_of

router = APIRouter(prefix="/admin/keys")

# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def list_keys(request: Request, caller: Admin) -> dict[str, Any]:
    """Keys without their secrets."""
    with gateway_of(request).store.session() as session:
        return {"data": keys.listed(session)}


@router.post("", status_code=201)
def add_key(request: Request, body: NewKey, caller: Admin) -> dict[str, Any]:
    """Add a key. `key` is shown this once."""
    with gateway_of(request).store.session() as session:
        row, secret = keys.add(session, caller.actor, body.name, body.scopes, body.days)
    return row | {"key": secret}


@router.delete("/{key}")
def revoke_key(request: Request, key: str, caller: Admin) -> dict[str, Any]:
    """Revoke a key by id or prefix; gateways follow within a second."""
    with gateway_of(request).store.session() as session:
        return keys.revoke(session, caller.actor, key)
