"""Aliases over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from service.administration import aliases
from service.auth import Admin
from service.schemas import SetAlias, Version
from service.state import gateway_of

router = APIRouter(prefix="/admin/aliases")

# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def list_aliases(request: Request, caller: Admin) -> dict[str, Any]:
    """Aliases with their versions, the checkpoint that each was promoted to, and what answers now (`served`)."""
    with gateway_of(request).store.session() as session:
        data = aliases.listed(session)
    return {"aliases": {row["alias"]: row["checkpoint"] for row in data}, "data": data}


@router.put("/{alias:path}")
def set_alias(request: Request, alias: str, body: SetAlias, caller: Admin) -> dict[str, Any]:
    """Promote a checkpoint. Its requests move when an engine of it has proved itself."""
    state = gateway_of(request)
    with state.store.session() as session:
        row = aliases.promote(
            session, state.settings.checkpoints, alias, body.checkpoint, caller.actor,
            version=body.version, options=body.options,
        )  # fmt: skip
        return aliases.described(row)


@router.post("/{alias:path}/rollback")
def roll_back(request: Request, alias: str, caller: Admin) -> dict[str, Any]:
    """Go back to the checkpoint that was served before; a promotion in progress is called off."""
    with gateway_of(request).store.session() as session:
        return aliases.described(aliases.roll_back(session, alias, caller.actor))


@router.delete("/{alias:path}")
def remove_alias(request: Request, alias: str, caller: Admin, version: Version | None = None) -> dict[str, Any]:
    """Remove an alias, at `version` if one is given; engines that only it named end."""
    with gateway_of(request).store.session() as session:
        aliases.remove(session, alias, caller.actor, version=version)
    return {"alias": alias, "removed": True}
