"""Administration over HTTP: engines wanted and aliases. Everything leaves an audit row."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import aliases
from service.auth import Caller, require
from service.engines import desired
from service.errors import ApiError
from service.schemas import SetAlias, WantEngine
from service.store.models import Alias, Audit, Engine
from training.artifacts.checkpoints import MANIFEST, load
from training.artifacts.errors import UserError

router = APIRouter(prefix="/admin")
Admin = Annotated[Caller, Depends(require("admin"))]

# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("/engines")
def engines(request: Request, caller: Admin) -> dict[str, Any]:
    """Every engine with its state, and the checkpoints asked for."""
    with request.app.state.store.session() as session:
        rows = session.scalars(select(Engine).order_by(Engine.started)).all()
        return {
            "data": [_engine(row) for row in rows if row.state != desired.REQUESTED],
            "wanted": desired.requested(session),
        }


@router.post("/engines", status_code=202)
def want_engine(request: Request, body: WantEngine, caller: Admin) -> dict[str, Any]:
    """Ask the supervisors to serve a checkpoint; follow its state by `GET /admin/engines`."""
    with request.app.state.store.session() as session:
        _known_kind(request, session, body.checkpoint)
        desired.request(session, body.checkpoint)
        _audit(session, caller, "want_engine", body.checkpoint)
    return {"checkpoint": body.checkpoint, "state": desired.REQUESTED}


@router.delete("/engines/{checkpoint}", status_code=202)
def unwant_engine(request: Request, checkpoint: str, caller: Admin) -> dict[str, Any]:
    """Withdraw the request for an engine of this checkpoint.

    The engine ends unless an alias or the supervisor's own list names the checkpoint.
    """
    with request.app.state.store.session() as session:
        if not desired.withdraw(session, checkpoint):
            raise ApiError(404, f"nobody asked for an engine of {checkpoint}", code="not_found")
        _audit(session, caller, "unwant_engine", checkpoint)
    return {"checkpoint": checkpoint, "state": "unwanted"}


@router.get("/aliases")
def list_aliases(request: Request, caller: Admin) -> dict[str, Any]:
    """Aliases with their versions, and the checkpoint that each is served by now."""
    served = request.app.state.endpoints.view.aliases
    with request.app.state.store.session() as session:
        rows = session.scalars(select(Alias).order_by(Alias.name)).all()
        data = [_alias(row) | {"served": served.get(row.name)} for row in rows]
        return {"aliases": {row.name: row.checkpoint for row in rows}, "data": data}


@router.put("/aliases/{alias:path}")
def set_alias(request: Request, alias: str, body: SetAlias, caller: Admin) -> dict[str, Any]:
    """Promote a checkpoint. Its requests move when an engine of it is ready."""
    with request.app.state.store.session() as session:
        kind = _known_kind(request, session, body.checkpoint)
        if kind != alias.split("/")[0]:
            raise ApiError(400, f"{body.checkpoint} is a {kind} model: it cannot be {alias}", code="not_promoted")
        try:
            return _alias(aliases.promote(session, alias, body.checkpoint, caller.actor, version=body.version))
        except UserError as error:
            raise ApiError(409 if "changed" in str(error) else 400, str(error), code="not_promoted") from None


@router.post("/aliases/{alias:path}/rollback")
def rollback(request: Request, alias: str, caller: Admin) -> dict[str, Any]:
    """Go back to the checkpoint before."""
    with request.app.state.store.session() as session:
        return _alias(aliases.rollback(session, alias, caller.actor))


def _audit(session: Session, caller: Caller, action: str, subject: str) -> None:
    session.add(Audit(actor=caller.actor, action=action, subject=subject))


def _engine(row: Engine) -> dict[str, Any]:
    return {
        "checkpoint": row.checkpoint,
        "kind": row.kind,
        "state": row.state,
        "detail": row.detail,
        "url": row.url,
        "supervisor": row.supervisor,
        "started": row.started.isoformat(),
        "heartbeat": row.heartbeat.isoformat(),
    }


def _alias(row: Alias) -> dict[str, Any]:
    return {
        "alias": row.name,
        "checkpoint": row.checkpoint,
        "version": row.version,
        "updated": row.updated.isoformat(),
    }


def _known_kind(request: Request, session: Session, checkpoint: str) -> str:
    """Kind of a checkpoint that an engine serves or that lies in the store. Raises `ApiError` 404 for any other."""
    served = session.scalar(select(Engine.kind).where(Engine.checkpoint == checkpoint, Engine.kind != ""))
    if served is not None:
        return served
    folder = request.app.state.settings.checkpoints / checkpoint
    if "/" in checkpoint or not (folder / MANIFEST).is_file():
        message = f"no checkpoint {checkpoint!r} in the store, and no engine serves it"
        raise ApiError(404, message, param="checkpoint", code="checkpoint_not_found")
    return load(folder).manifest.kind
