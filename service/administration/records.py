"""Audit rows, in the transaction of what they tell."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from service.store.models import Audit

LONGEST = 200  # characters of an actor, as the table holds them


def record(session: Session, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Say who did what to whom."""
    session.add(Audit(actor=actor[:LONGEST], action=action, subject=subject[:300], detail=detail))
