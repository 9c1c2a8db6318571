"""Labelers over HTTP. `{labeler}` is an id, a name or a pseudonym."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from service.administration import labelers
from service.auth import Admin
from service.schemas import NewLabeler
from service.state import gateway_of

router = APIRouter(prefix="/admin/labelers")

# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def list_labelers(request: Request, caller: Admin) -> dict[str, Any]:
    """Labelers without their tokens, with what they answered, and changed or withdrew after the names were shown."""
    with gateway_of(request).store.session() as session:
        return {"data": labelers.listed(session)}


@router.post("", status_code=201)
def add_labeler(request: Request, body: NewLabeler, caller: Admin) -> dict[str, Any]:
    """Add a labeler. `token` signs in at /sign-in and is shown this once."""
    with gateway_of(request).store.session() as session:
        row, token = labelers.add(session, caller.actor, body.name, body.group)
    return row | {"token": token}


@router.delete("/{labeler}")
def disable_labeler(request: Request, labeler: str, caller: Admin) -> dict[str, Any]:
    """Disable a labeler; their sessions end, their answers stay."""
    with gateway_of(request).store.session() as session:
        return labelers.disable(session, caller.actor, labeler)


@router.post("/{labeler}/enable")
def enable_labeler(request: Request, labeler: str, caller: Admin) -> dict[str, Any]:
    """Let a disabled labeler in again, with the token that they have."""
    with gateway_of(request).store.session() as session:
        return labelers.enable(session, caller.actor, labeler)


@router.post("/{labeler}/token", status_code=201)
def reissue_token(request: Request, labeler: str, caller: Admin) -> dict[str, Any]:
    """A new sign-in token for one that was lost; `token` is shown this once, and sessions of the old one end."""
    with gateway_of(request).store.session() as session:
        row, token = labelers.reissue(session, caller.actor, labeler)
    return row | {"token": token}


@router.put("/{labeler}/exclusion")
def exclude_labeler(request: Request, labeler: str, caller: Admin) -> dict[str, Any]:
    """Leave a labeler's answers out of results and exports."""
    with gateway_of(request).store.session() as session:
        return labelers.exclude(session, caller.actor, labeler)


@router.delete("/{labeler}/exclusion")
def include_labeler(request: Request, labeler: str, caller: Admin) -> dict[str, Any]:
    """Count an excluded labeler's answers again."""
    with gateway_of(request).store.session() as session:
        return labelers.include(session, caller.actor, labeler)
