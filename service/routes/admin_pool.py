"""The pool of prompts over HTTP: what is out of use, for whom and why, and bringing it back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from typing_extensions import TypedDict

from service.administration import pool
from service.administration.pool import OutOfUse, PoolSummary
from service.auth import Admin
from service.errors import error_answers
from service.schemas import RestorePrompts, RetirePrompts
from service.state import gateway_of

router = APIRouter(prefix="/admin/pool", tags=["admin"])


class Pool(TypedDict):
    summary: PoolSummary
    data: list[OutOfUse]


class Restored(TypedDict):
    """How many prompts came back."""

    restored: int


class Retired(TypedDict):
    """How many prompts went out of use."""

    retired: int


# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def show_pool(
    request: Request,
    caller: Admin,
    checkpoint: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Pool:
    """Numbers of prompts, and those out of use: retired (for nobody), or set aside for the checkpoint that refused it.

    `checkpoint` gives only what that one refused.
    """
    with gateway_of(request).store.session() as session:
        return {"summary": pool.summary(session), "data": pool.out_of_use(session, checkpoint, limit, offset)}


@router.post("/restore", responses=error_answers(404))
def restore_prompts(request: Request, body: RestorePrompts, caller: Admin) -> Restored:
    """Bring prompts back: those named, or all that a checkpoint refused."""
    return {"restored": pool.restore(gateway_of(request).store, caller.actor, body.prompts, body.checkpoint)}


@router.post("/retire", responses=error_answers(404))
def retire_prompts(request: Request, body: RetirePrompts, caller: Admin) -> Retired:
    """Give prompts to nobody any more. Their comparisons stay."""
    return {"retired": pool.retire(gateway_of(request).store, caller.actor, body.prompts, body.reason)}
