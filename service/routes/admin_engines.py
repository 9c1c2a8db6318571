"""Engines over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from service.administration import engines
from service.auth import Admin
from service.schemas import WantEngine
from service.state import gateway_of

router = APIRouter(prefix="/admin/engines")

# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def list_engines(request: Request, caller: Admin) -> dict[str, Any]:
    """Every engine with its state, its plan and why it failed, and the checkpoints that were requested."""
    with gateway_of(request).store.session() as session:
        return {"data": engines.listed(session), "wanted": engines.requested(session)}


@router.post("", status_code=202)
def request_engine(request: Request, body: WantEngine, caller: Admin) -> dict[str, Any]:
    """Ask the supervisors to serve a checkpoint; follow its state by `GET /admin/engines`."""
    state = gateway_of(request)
    with state.store.session() as session:
        engines.request_engine(session, state.settings.checkpoints, body.checkpoint, caller.actor, body.options)
    return {"checkpoint": body.checkpoint, "state": "wanted"}


@router.delete("/{checkpoint}", status_code=202)
def withdraw_request(request: Request, checkpoint: str, caller: Admin) -> dict[str, Any]:
    """Withdraw the request for an engine of this checkpoint.

    The engine ends unless an alias or the supervisor's own list names the checkpoint.
    """
    with gateway_of(request).store.session() as session:
        engines.withdraw_request(session, checkpoint, caller.actor)
    return {"checkpoint": checkpoint, "state": "unwanted"}
