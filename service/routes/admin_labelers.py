"""Labelers over HTTP. `{labeler}` is an id, a name or a pseudonym."""

from __future__ import annotations

from fastapi import APIRouter, Request
from typing_extensions import TypedDict

from service.administration import labelers
from service.administration.labelers import CountedLabeler, LabelerRow
from service.auth import Admin
from service.errors import error_answers
from service.schemas import NewLabeler
from service.state import gateway_of

router = APIRouter(prefix="/admin/labelers", tags=["admin"])


class Labelers(TypedDict):
    data: list[CountedLabeler]


class LabelerWithToken(LabelerRow):
    """A labeler with the token that signs in."""

    token: str


# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def list_labelers(request: Request, caller: Admin) -> Labelers:
    """Labelers without their tokens, with what they answered, and changed or withdrew after the names were shown."""
    with gateway_of(request).store.session() as session:
        return {"data": labelers.listed(session)}


@router.post("", status_code=201, responses=error_answers(409))
def add_labeler(request: Request, body: NewLabeler, caller: Admin) -> LabelerWithToken:
    """Add a labeler. `token` signs in at /sign-in and is shown this once."""
    with gateway_of(request).store.session() as session:
        row, token = labelers.add(session, caller.actor, body.name, body.group)
    return {**row, "token": token}


@router.delete("/{labeler}", responses=error_answers(404))
def disable_labeler(request: Request, labeler: str, caller: Admin) -> LabelerRow:
    """Disable a labeler; their sessions end, their answers stay."""
    with gateway_of(request).store.session() as session:
        return labelers.disable(session, caller.actor, labeler)


@router.post("/{labeler}/enable", responses=error_answers(404))
def enable_labeler(request: Request, labeler: str, caller: Admin) -> LabelerRow:
    """Let a disabled labeler in again, with the token that they have."""
    with gateway_of(request).store.session() as session:
        return labelers.enable(session, caller.actor, labeler)


@router.post("/{labeler}/token", status_code=201, responses=error_answers(404))
def reissue_token(request: Request, labeler: str, caller: Admin) -> LabelerWithToken:
    """A new sign-in token for one that was lost; `token` is shown this once, and sessions of the old one end."""
    with gateway_of(request).store.session() as session:
        row, token = labelers.reissue(session, caller.actor, labeler)
    return {**row, "token": token}


@router.put("/{labeler}/exclusion", responses=error_answers(404))
def exclude_labeler(request: Request, labeler: str, caller: Admin) -> LabelerRow:
    """Leave a labeler's answers out of results and exports."""
    with gateway_of(request).store.session() as session:
        return labelers.exclude(session, caller.actor, labeler)


@router.delete("/{labeler}/exclusion", responses=error_answers(404))
def include_labeler(request: Request, labeler: str, caller: Admin) -> LabelerRow:
    """Count an excluded labeler's answers again."""
    with gateway_of(request).store.session() as session:
        return labelers.include(session, caller.actor, labeler)
