"""The audit over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from typing_extensions import TypedDict

from service.administration import audit
from service.administration.audit import AuditRow
from service.auth import Admin
from service.state import gateway_of

router = APIRouter(prefix="/admin/audit", tags=["admin"])


class AuditRows(TypedDict):
    data: list[AuditRow]


@router.get("")
def list_audit(
    request: Request, caller: Admin, subject: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> AuditRows:
    """Who changed what, newest first; `subject` is an alias, a checkpoint, a key's name or a pseudonym."""
    with gateway_of(request).store.session() as session:
        return {"data": audit.listed(session, subject, limit)}
