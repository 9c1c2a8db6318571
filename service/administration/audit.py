"""Who changed what."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from service.store.models import Audit


class AuditRow(TypedDict):
    """Who did what to whom, and when (ISO 8601)."""

    time: str
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


def listed(session: Session, subject: str | None, limit: int) -> list[AuditRow]:
    """Audit rows, newest first: of one alias, checkpoint, key or labeler, or of all."""
    rows = select(Audit).order_by(Audit.id.desc()).limit(limit)
    if subject is not None:
        rows = rows.where(Audit.subject == subject)
    return [
        {
            "time": row.time.isoformat(timespec="seconds"),
            "actor": row.actor,
            "action": row.action,
            "subject": row.subject,
            "detail": row.detail,
        }
        for row in session.scalars(rows)
    ]
