"""Aliases over HTTP."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from typing_extensions import TypedDict

from service.administration import aliases
from service.administration.aliases import AliasRow, AliasWithOptions
from service.auth import Admin
from service.errors import error_answers
from service.schemas import SetAlias, Version
from service.state import gateway_of

router = APIRouter(prefix="/admin/aliases", tags=["admin"])


class Aliases(TypedDict):
    """The target of each alias, and all that is known of them."""

    aliases: dict[str, str]
    data: list[AliasWithOptions]


class RemovedAlias(TypedDict):
    alias: str
    removed: Literal[True]


# Plain functions: FastAPI runs them in threads, where the database may block.


@router.get("")
def list_aliases(request: Request, caller: Admin) -> Aliases:
    """Aliases with their versions, the checkpoint that each was promoted to, and what answers now (`served`)."""
    with gateway_of(request).store.session() as session:
        data = aliases.listed(session)
    return {"aliases": {row["alias"]: row["checkpoint"] for row in data}, "data": data}


@router.put("/{alias:path}", responses=error_answers(404, 409))
def set_alias(request: Request, alias: str, body: SetAlias, caller: Admin) -> AliasRow:
    """Promote a checkpoint. Its requests move when an engine of it has proved itself."""
    state = gateway_of(request)
    with state.store.session() as session:
        row = aliases.promote(
            session, state.settings.checkpoints, alias, body.checkpoint, caller.actor,
            version=body.version, options=body.options,
        )  # fmt: skip
        return aliases.described(row)


@router.post("/{alias:path}/rollback", responses=error_answers(404, 409))
def roll_back(request: Request, alias: str, caller: Admin) -> AliasRow:
    """Go back to the checkpoint that was served before; a promotion in progress is called off."""
    with gateway_of(request).store.session() as session:
        return aliases.described(aliases.roll_back(session, alias, caller.actor))


@router.delete("/{alias:path}", responses=error_answers(404, 409))
def remove_alias(request: Request, alias: str, caller: Admin, version: Version | None = None) -> RemovedAlias:
    """Remove an alias, at `version` if one is given; engines that only it named end."""
    with gateway_of(request).store.session() as session:
        aliases.remove(session, alias, caller.actor, version=version)
    return {"alias": alias, "removed": True}
