"""API keys over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request
from typing_extensions import TypedDict

from service.administration import keys
from service.administration.keys import KeyRow
from service.auth import Admin
from service.errors import error_answers
from service.schemas import NewKey
from service.state import gateway_of

router = APIRouter(prefix="/admin/keys", tags=["admin"])


class Keys(TypedDict):
    data: list[KeyRow]


class AddedKey(KeyRow):
    """A new key; `key` is its secret."""

    key: str


# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def list_keys(request: Request, caller: Admin) -> Keys:
    """Keys without their secrets."""
    with gateway_of(request).store.session() as session:
        return {"data": keys.listed(session)}


@router.post("", status_code=201, responses=error_answers(409))
def add_key(request: Request, body: NewKey, caller: Admin) -> AddedKey:
    """Add a key. `key` is shown this once."""
    with gateway_of(request).store.session() as session:
        row, secret = keys.add(session, caller.actor, body.name, body.scopes, body.days)
    return {**row, "key": secret}


@router.delete("/{key}", responses=error_answers(404, 409))
def revoke_key(request: Request, key: str, caller: Admin) -> KeyRow:
    """Revoke a key by id or prefix; gateways follow within a second."""
    with gateway_of(request).store.session() as session:
        return keys.revoke(session, caller.actor, key)
