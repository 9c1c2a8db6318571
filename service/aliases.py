"""Moving names of checkpoints. Each change is one transaction with its audit row.

An alias has a target (`checkpoint`) and what answers now (`served`). People change the target: `promote`, `rollback`.
Supervisors let it take effect when an engine of it has proved itself (`serve`), or withdraw it when none ever will
(`take_back`). The history of audit rows answers one question only: what was served before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.administration.records import record
from service.errors import Conflict, NotFound
from service.store.models import Alias, Audit, now
from training.artifacts.errors import UserError

NAME = re.compile(r"(policy|reward)/[a-z0-9][a-z0-9_-]{0,60}")


def check_name(alias: str) -> None:
    """Raise `UserError` unless the alias is KIND/NAME."""
    if not NAME.fullmatch(alias):
        raise UserError(f"{alias!r} is not an alias: use policy/NAME or reward/NAME, such as policy/production")


def get(session: Session, alias: str) -> Alias:
    """The alias's row. Raises `NotFound`."""
    row = session.get(Alias, alias)
    if row is None:
        raise NotFound(f"no alias {alias!r}: see `python -m service aliases list`")
    return row


def promote(
    session: Session,
    alias: str,
    checkpoint: str,
    actor: str,
    *,
    version: int | None = None,
    action: str = "promote",
    gate: Mapping[str, str] | None = None,
) -> Alias:
    """Make `checkpoint` the target of `alias`, by compare-and-swap.

    Args:
        version: the version that the caller saw; None takes the one read in this transaction.
        gate: verdict of the release gate, for the audit.

    Raises:
        Conflict: somebody else changed the alias meanwhile.
    """
    check_name(alias)
    row = session.get(Alias, alias)
    if row is None:
        if version not in (None, 0):
            raise Conflict(f"{alias} is not at version {version}: it does not exist")
        session.add(Alias(name=alias, checkpoint=checkpoint))
        try:
            session.flush()
        except IntegrityError:
            raise _changed(alias) from None
        row, previous = session.get_one(Alias, alias), None
    else:
        previous = row.checkpoint
        fallback = row.fallback if previous == checkpoint else previous
        _swap(
            session,
            row,
            row.version if version is None else version,
            checkpoint=checkpoint,
            fallback=None if row.served else fallback,
            note=None,
        )
    verdict = {} if gate is None else {"gate": dict(gate)}
    _audit(session, actor, action, row, previous=previous, **verdict)
    return row


def rollback(session: Session, alias: str, actor: str, *, version: int | None = None) -> Alias:
    """Go back to the checkpoint that was served before the present one; a promotion in progress is called off.

    Raises:
        NotFound: there is no such alias.
        Conflict: somebody else changed it meanwhile.
        UserError: nothing was served before.
    """
    row = get(session, alias)
    earlier = _checkpoint_before(session, row)
    if earlier is None:
        raise UserError(f"{alias} has no earlier checkpoint to go back to")
    return promote(session, alias, earlier, actor, version=version, action="rollback")


def serve(session: Session, alias: str, version: int, actor: str) -> bool:
    """Let the target of `version` answer the alias's requests: an engine of it is ready and has proved itself.

    Returns:
        Whether this call changed it: not when the alias moved on, or another supervisor was first.
    """
    row = session.get(Alias, alias)
    if row is None or row.version != version or row.served == row.checkpoint:
        return False
    before, by = row.served, _last_action(session, alias)
    same = Alias.served.is_(None) if before is None else Alias.served == before
    changed = session.execute(
        update(Alias)
        .where(Alias.name == alias, Alias.version == version, same)
        .values(served=row.checkpoint, served_since=now(), fallback=None)
    )
    if not _one(changed):
        return False
    session.refresh(row)
    _audit(session, actor, "served", row, previous=before, by=by)
    return True


def take_back(session: Session, alias: str, version: int, reason: str, actor: str) -> str | None:
    """Withdraw the target of `version`, of which no engine can be had: the target is again what is served.

    An alias that the failed promotion created, and that never answered, is removed. One that has neither been served
    nor had another target stays as it is.

    Returns:
        What happened, as a sentence; None when nothing did.
    """
    row = session.get(Alias, alias)
    if row is None or row.version != version or row.served == row.checkpoint:
        return None
    failed, target = row.checkpoint, row.served or row.fallback
    if target is None:
        if version != 1 or not _one(_delete(session, alias, version)):
            return None
        detail = {"checkpoint": None, "previous": failed, "version": version, "reason": reason}
        record(session, actor, "take_back", alias, **detail)
        return f"{alias} is removed: {failed} cannot be served and nothing was before it ({reason})"
    try:
        _swap(session, row, version, checkpoint=target, fallback=None, note=f"{failed} was taken back: {reason}")
    except Conflict:
        return None
    _audit(session, actor, "take_back", row, previous=failed, reason=reason)
    return f"{alias} is {target} again: {failed} was taken back ({reason})"


def remove(session: Session, alias: str, actor: str, *, version: int | None = None) -> None:
    """Delete `alias`.

    Raises:
        NotFound: there is no such alias.
        Conflict: it is not at `version` any more.
    """
    row = get(session, alias)
    detail = {"checkpoint": row.checkpoint, "served": row.served, "version": row.version}
    if not _one(_delete(session, alias, row.version if version is None else version)):
        raise _changed(alias)
    record(session, actor, "remove", alias, **detail)


def _checkpoint_before(session: Session, row: Alias) -> str | None:
    if row.served != row.checkpoint and _last_action(session, row.name) == "promote":
        return row.served or row.fallback
    served = _served_in_order(session, row.name)
    if row.checkpoint not in served:
        return served[-1] if served else None
    place = len(served) - 1 - served[::-1].index(row.checkpoint)
    return served[place - 1] if place else None


def _served_in_order(session: Session, alias: str) -> list[str]:
    """Checkpoints that `alias` was served by, oldest first. A rollback undoes the change before it, so that two of them
    go back two steps."""
    rows = session.scalars(select(Audit).where(Audit.subject == alias).order_by(Audit.id))
    stack: list[str] = []
    for row in rows:
        if row.action == "remove":
            stack = []
        elif row.action == "served":
            _put(stack, row.detail["checkpoint"], row.detail["by"])
        elif row.action in ("promote", "rollback") and "served" not in row.detail:
            # Of a version that did not tell targets from what is served.
            _put(stack, row.detail["checkpoint"], row.action)
    return stack


def _put(stack: list[str], checkpoint: str, by: str | None) -> None:
    """Put what is served now on top; a rollback takes away what was above it."""
    if by == "rollback" and checkpoint in stack:
        del stack[len(stack) - stack[::-1].index(checkpoint) :]
    elif stack[-1:] != [checkpoint]:
        stack.append(checkpoint)


def _last_action(session: Session, alias: str) -> str | None:
    """How the present target came to be."""
    actions = ("promote", "rollback", "take_back")
    rows = select(Audit.action).where(Audit.subject == alias, Audit.action.in_(actions))
    return session.scalar(rows.order_by(Audit.id.desc()).limit(1))


def _swap(session: Session, row: Alias, seen: int, **values: Any) -> None:
    """Change the target of the version that was seen. Raises `Conflict`."""
    changed = session.execute(
        update(Alias)
        .where(Alias.name == row.name, Alias.version == seen)
        .values(version=seen + 1, updated=now(), **values)
    )
    if not _one(changed):
        raise _changed(row.name)
    session.refresh(row)


def _delete(session: Session, alias: str, version: int) -> Any:
    return session.execute(delete(Alias).where(Alias.name == alias, Alias.version == version))


def _one(result: Any) -> bool:
    assert isinstance(result, CursorResult)
    return bool(result.rowcount == 1)


def _audit(session: Session, actor: str, action: str, row: Alias, **more: Any) -> None:
    detail = {"checkpoint": row.checkpoint, "served": row.served, "version": row.version, **more}
    record(session, actor, action, row.name, **detail)
    session.flush()


def _changed(alias: str) -> Conflict:
    return Conflict(f"{alias} was changed by somebody else meanwhile: look at it and promote again")
