"""Moving names of checkpoints: promotion and rollback, each one transaction with its audit row."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.store.models import Alias, Audit, now
from training.artifacts.errors import UserError

NAME = re.compile(r"(policy|reward)/[a-z0-9][a-z0-9_-]{0,60}")


def check_name(alias: str) -> None:
    """Raise `UserError` unless the alias is KIND/NAME."""
    if not NAME.fullmatch(alias):
        raise UserError(f"{alias!r} is not an alias: use policy/NAME or reward/NAME, such as policy/production")


def promote(
    session: Session, alias: str, checkpoint: str, actor: str, *, version: int | None = None, action: str = "promote"
) -> Alias:
    """Point `alias` to `checkpoint`, by compare-and-swap.

    Args:
        version: the version that the caller saw; None takes the one read in this transaction.

    Raises:
        UserError: somebody else changed the alias meanwhile.
    """
    check_name(alias)
    row = session.get(Alias, alias)
    if row is None:
        if version not in (None, 0):
            raise UserError(f"{alias} is not at version {version}: it does not exist")
        session.add(Alias(name=alias, checkpoint=checkpoint))
        try:
            session.flush()
        except IntegrityError:
            raise _changed(alias) from None
        previous, seen = None, 0
    else:
        previous, seen = row.checkpoint, row.version if version is None else version
        swapped = session.execute(
            update(Alias)
            .where(Alias.name == alias, Alias.version == seen)
            .values(checkpoint=checkpoint, version=seen + 1, updated=now())
        )
        assert isinstance(swapped, CursorResult)
        if swapped.rowcount != 1:
            raise _changed(alias)
        session.refresh(row)
    detail: dict[str, Any] = {"checkpoint": checkpoint, "previous": previous, "version": seen + 1}
    session.add(Audit(actor=actor, action=action, subject=alias, detail=detail))
    session.flush()
    return session.get_one(Alias, alias)


def rollback(session: Session, alias: str, actor: str) -> Alias:
    """Point `alias` to the checkpoint that it had before its last change. Raises `UserError` if there was none."""
    earlier = previous_targets(session, alias)
    if not earlier:
        raise UserError(f"{alias} has no earlier checkpoint to go back to")
    return promote(session, alias, earlier[0], actor, action="rollback")


def remove(session: Session, alias: str, actor: str, *, version: int) -> None:
    """Delete `alias` as it was at `version`: a first promotion that failed has nothing to go back to."""
    gone = session.execute(delete(Alias).where(Alias.name == alias, Alias.version == version))
    assert isinstance(gone, CursorResult)
    if gone.rowcount == 1:
        session.add(Audit(actor=actor, action="remove", subject=alias, detail={"version": version}))


def previous_targets(session: Session, alias: str, limit: int = 10) -> list[str]:
    """Checkpoints that `alias` had before the present one, newest first, without repeats.

    A rollback undoes the change before it, so that two rollbacks go back two steps.
    """
    rows = session.scalars(
        select(Audit)
        .where(Audit.subject == alias, Audit.action.in_(("promote", "rollback")))
        .order_by(Audit.id.desc())
        .limit(limit * 4)
    )
    stack: list[str] = []
    for row in reversed(list(rows)):
        target, previous = row.detail["checkpoint"], row.detail["previous"]
        if row.action == "rollback" and target in stack:
            del stack[stack.index(target) :]
        elif previous and previous != target:
            stack.append(previous)
    return list(dict.fromkeys(reversed(stack)))[:limit]


def _changed(alias: str) -> UserError:
    return UserError(f"{alias} was changed by somebody else meanwhile: look at it and promote again")
