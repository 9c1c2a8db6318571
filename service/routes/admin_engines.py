"""Engines over HTTP."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from typing_extensions import TypedDict

from service.administration import engines
from service.administration.engines import EngineRow
from service.auth import Admin
from service.errors import error_answers
from service.schemas import WantEngine
from service.state import gateway_of

router = APIRouter(prefix="/admin/engines", tags=["admin"])


# Every engine, and the checkpoints that one was requested of, under a name that clients know.
Engines = TypedDict("Engines", {"data": list[EngineRow], "wanted": list[str]})  # noqa: UP013


class EngineRequest(TypedDict):
    checkpoint: str
    state: Literal["wanted", "unwanted"]


# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def list_engines(request: Request, caller: Admin) -> Engines:
    """Every engine with its state, its plan and why it failed, and the checkpoints that were requested."""
    with gateway_of(request).store.session() as session:
        return {"data": engines.listed(session), "wanted": engines.requested(session)}


@router.post("", status_code=202, responses=error_answers(404, 409))
def request_engine(request: Request, body: WantEngine, caller: Admin) -> EngineRequest:
    """Ask the supervisors to serve a checkpoint; follow its state by `GET /admin/engines`."""
    state = gateway_of(request)
    with state.store.session() as session:
        engines.request_engine(session, state.settings.checkpoints, body.checkpoint, caller.actor, body.options)
    return {"checkpoint": body.checkpoint, "state": "wanted"}


@router.delete("/{checkpoint}", status_code=202, responses=error_answers(404))
def withdraw_request(request: Request, checkpoint: str, caller: Admin) -> EngineRequest:
    """Withdraw the request for an engine of this checkpoint.

    The engine ends unless an alias or the supervisor's own list names the checkpoint.
    """
    with gateway_of(request).store.session() as session:
        engines.withdraw_request(session, checkpoint, caller.actor)
    return {"checkpoint": checkpoint, "state": "unwanted"}
