"""Who changed what."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.models import Audit


def listed(session: Session, subject: str | None, limit: int) -> list[dict[str, Any]]:
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
