"""Engines: which there are and why, requests for more, and the vLLM options of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from service.administration.records import record
from service.engines import options as engine_options
from service.engines import wanted
from service.errors import NotFound
from service.store.models import Engine, EngineOptions, WantedEngine
from training.artifacts.checkpoints import MANIFEST, load
from training.artifacts.errors import UserError
from training.artifacts.files import exists


class EngineRow(TypedDict):
    """An engine; times in ISO 8601. `detail` says why it failed or how it differs, `plan` how it was started."""

    checkpoint: str
    kind: str
    state: str
    detail: str | None
    given_up: bool
    plan: dict[str, Any]
    url: str
    supervisor: str
    started: str
    heartbeat: str


def listed(session: Session) -> list[EngineRow]:
    """Every engine with its state, and the reason where it failed."""
    return [
        {
            "checkpoint": row.checkpoint,
            "kind": row.kind,
            "state": row.state,
            "detail": row.detail,
            "given_up": row.given_up,
            "plan": row.plan,
            "url": row.url,
            "supervisor": row.supervisor,
            "started": row.started.isoformat(),
            "heartbeat": row.heartbeat.isoformat(),
        }
        for row in session.scalars(select(Engine).order_by(Engine.started))
    ]


def requested(session: Session) -> list[str]:
    """Checkpoints that an engine was requested of, in the order of the requests."""
    return list(session.scalars(select(WantedEngine.checkpoint).order_by(WantedEngine.created)))


def request_engine(
    session: Session, store: Path, checkpoint: str, actor: str, options: Mapping[str, Any] | None = None
) -> None:
    """Note that an engine is wanted of a checkpoint; a start that was given up is tried again.

    Args:
        store: folder of published checkpoints.
        options: vLLM options of the checkpoint from now on; None leaves them as they are.

    Raises:
        NotFound: nobody knows the checkpoint.
        UserError: an option is unknown.
    """
    kind_of(session, store, checkpoint)
    set_options(session, checkpoint, options)
    wanted.request(session, checkpoint, actor)
    record(session, actor, "want_engine", checkpoint, **({} if options is None else {"options": dict(options)}))


def withdraw_request(session: Session, checkpoint: str, actor: str) -> None:
    """Withdraw the request: the engine ends unless an alias or a supervisor's own list names it. Raises `NotFound`."""
    if not wanted.withdraw(session, checkpoint):
        raise NotFound(f"nobody requested an engine of {checkpoint}")
    record(session, actor, "unwant_engine", checkpoint)


def set_options(session: Session, checkpoint: str, options: Mapping[str, Any] | None) -> None:
    """Keep the vLLM options of a checkpoint for its next start. Raises `UserError` for an unknown one."""
    if options is not None:
        engine_options.store(session, checkpoint, engine_options.checked(options))


def options_of(session: Session, checkpoint: str) -> dict[str, Any] | None:
    """The vLLM options of a checkpoint; None where nobody ever gave any."""
    row = session.get(EngineOptions, checkpoint)
    return None if row is None else dict(row.options)


def kind_of(session: Session, store: Path, checkpoint: str) -> str:
    """Kind of a checkpoint that an engine serves or that lies in the store. Raises `NotFound` for any other."""
    served = session.scalar(select(Engine.kind).where(Engine.checkpoint == checkpoint, Engine.kind != ""))
    if served is not None:
        return served
    plain = checkpoint.isprintable() and "/" not in checkpoint and checkpoint not in ("", ".", "..")
    if not plain or not exists(store / checkpoint / MANIFEST):
        raise NotFound(f"no checkpoint {checkpoint!r} in the store, and no engine serves it")
    manifest = load(store / checkpoint).manifest
    if manifest.id != checkpoint:
        raise UserError(f"{store / checkpoint} holds the checkpoint {manifest.id}: give the folder that name")
    return manifest.kind
