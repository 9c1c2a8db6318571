"""Aliases: what people may promote, roll back and remove."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from service import aliases
from service.administration import engines
from service.store.models import Alias
from training.artifacts.errors import UserError


class AliasRow(TypedDict):
    """An alias; times in ISO 8601.

    `checkpoint` is its target, `served` what answers its requests now, `note` why its last target was taken back.
    """

    alias: str
    checkpoint: str
    version: int
    updated: str
    served: str | None
    served_since: str | None
    note: str | None


class AliasWithOptions(AliasRow):
    """An alias with the vLLM options of its target."""

    options: dict[str, Any]


def described(row: Alias) -> AliasRow:
    """An alias with its target, what answers its requests now, and why its last target was taken back."""
    return {
        "alias": row.name,
        "checkpoint": row.checkpoint,
        "version": row.version,
        "updated": row.updated.isoformat(),
        "served": row.served,
        "served_since": row.served_since.isoformat() if row.served_since else None,
        "note": row.note,
    }


def listed(session: Session) -> list[AliasWithOptions]:
    """Every alias by name, with the vLLM options of its target."""
    rows = session.scalars(select(Alias).order_by(Alias.name))
    return [{**described(row), "options": engines.options_of(session, row.checkpoint) or {}} for row in rows]


def promote(
    session: Session,
    store: Path,
    alias: str,
    checkpoint: str,
    actor: str,
    *,
    version: int | None = None,
    options: Mapping[str, Any] | None = None,
    gate: Mapping[str, str] | None = None,
) -> Alias:
    """Make a checkpoint the target of an alias. Its requests move when an engine of it has proved itself.

    Args:
        store: folder of published checkpoints.
        version: the alias's version that the caller saw.
        options: vLLM options of the checkpoint; by default those that it has, or else those of the alias's target.
        gate: verdict of the release gate that it is promoted with, for the audit.

    Raises:
        NotFound: nobody knows the checkpoint.
        Conflict: somebody else changed the alias meanwhile.
        UserError: a model of the other kind, or an unknown option.
    """
    aliases.check_name(alias)
    kind = engines.kind_of(session, store, checkpoint)
    if kind != alias.split("/")[0]:
        raise UserError(f"{checkpoint} is a {kind} model: it cannot be {alias}")
    before = session.get(Alias, alias)
    if options is None and before is not None and engines.options_of(session, checkpoint) is None:
        options = engines.options_of(session, before.checkpoint)
    engines.set_options(session, checkpoint, options)
    return aliases.promote(session, alias, checkpoint, actor, version=version, gate=gate)


def roll_back(session: Session, alias: str, actor: str, *, version: int | None = None) -> Alias:
    """Go back to what was served before; see `aliases.rollback`."""
    return aliases.rollback(session, alias, actor, version=version)


def remove(session: Session, alias: str, actor: str, *, version: int | None = None) -> None:
    """Delete an alias; see `aliases.remove`."""
    aliases.remove(session, alias, actor, version=version)
