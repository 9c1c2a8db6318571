"""Checkpoints that are to be served: those of the aliases, and those that somebody requested an engine of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from service.store.models import Alias, EngineOptions, WantedEngine, now


@dataclass(frozen=True)
class Target:
    """An alias as a supervisor sees it: `checkpoint` is to be served at `version`, `served` answers now."""

    alias: str
    checkpoint: str
    served: str | None
    version: int

    @property
    def pending(self) -> bool:
        return self.checkpoint != self.served


@dataclass(frozen=True)
class Demand:
    """What the store asks of supervisors.

    Attributes:
        targets: the aliases.
        requested: checkpoint -> when an engine was last requested of it.
        options: checkpoint -> vLLM options of its engines.
        wishes: checkpoint -> what changes whenever somebody wants it anew: a hopeless start is then tried once more.
    """

    targets: tuple[Target, ...] = ()
    requested: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    wishes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def served(self) -> list[str]:
        """What answers for an alias now: it is kept, whatever else is wanted."""
        return list(dict.fromkeys(target.served for target in self.targets if target.served))

    def checkpoints(self, *others: str) -> list[str]:
        """All that are to be served, each once: first what serves, then `others`, requests, and pending targets."""
        pending = [target.checkpoint for target in self.targets]
        return list(dict.fromkeys([*self.served, *others, *self.requested, *pending]))


def read(session: Session) -> Demand:
    """What is wanted now."""
    aliases = session.scalars(select(Alias).order_by(Alias.name)).all()
    requests = session.scalars(select(WantedEngine).order_by(WantedEngine.created)).all()
    options = session.scalars(select(EngineOptions)).all()
    wishes: dict[str, tuple[Any, ...]] = {}
    for alias in aliases:
        wishes[alias.checkpoint] = (*wishes.get(alias.checkpoint, ()), alias.name, alias.version)
    for request_ in requests:
        wishes[request_.checkpoint] = (*wishes.get(request_.checkpoint, ()), request_.created)
    for row in options:
        wishes[row.checkpoint] = (*wishes.get(row.checkpoint, ()), row.updated)
    return Demand(
        tuple(Target(alias.name, alias.checkpoint, alias.served, alias.version) for alias in aliases),
        tuple(request_.checkpoint for request_ in requests),
        {row.checkpoint: row.options for row in options},
        wishes,
    )


def request(session: Session, checkpoint: str, actor: str) -> None:
    """Note that an engine is wanted of a checkpoint. A request again has a start tried once more that was given up."""
    row = session.get(WantedEngine, checkpoint)
    if row is None:
        session.add(WantedEngine(checkpoint=checkpoint, requested_by=actor))
    else:
        row.requested_by, row.created = actor, now()
    session.flush()


def withdraw(session: Session, checkpoint: str) -> bool:
    """Withdraw the request for an engine of a checkpoint. Returns whether there was one."""
    result = session.execute(delete(WantedEngine).where(WantedEngine.checkpoint == checkpoint))
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)
