"""The commands about aliases and engines: promote, rollback, lists, audit."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import aliases as alias_store
from service.administration import aliases, audit, engines, gate
from service.administration.engines import EngineRow
from service.console import actor, open_store, print_table, say
from service.endpoints import STALE
from service.engines import options as engine_options
from service.settings import Settings
from service.store.database import Store, clock
from service.store.models import Alias, Engine
from training.artifacts import progress
from training.artifacts.checkpoints import resolve
from training.artifacts.errors import UserError

SUPERVISOR_SECONDS = 5.0  # a living supervisor has a row for a new checkpoint long before
POLL_SECONDS = 0.5


def promote(settings: Settings, parsed: argparse.Namespace) -> None:
    """Change the alias's target and wait until it answers. A supervisor takes a target back that cannot be served."""
    alias_store.check_name(parsed.alias)
    store = open_store(settings)
    with store.session() as session:
        checkpoint = _checkpoint_id(session, settings.checkpoints, parsed.checkpoint)
        options = None if parsed.option is None else engine_options.parsed(parsed.option)
        verdict = None
        if parsed.gate is not None:
            baseline = gate.require_pass(parsed.gate, checkpoint)
            _say_baseline(session, parsed.alias, baseline)
            verdict = {"outcome": "PASS", "baseline": baseline, "file": str(parsed.gate)}
        row = aliases.promote(
            session, settings.checkpoints, parsed.alias, checkpoint, actor(), options=options, gate=verdict
        )
        in_force = engines.options_of(session, checkpoint)
    say(f"{row.name} is to be {checkpoint} (version {row.version}){_with_options(in_force)}")
    if not parsed.no_wait:
        _wait(settings, store, row)


def rollback(settings: Settings, parsed: argparse.Namespace) -> None:
    """Go back to what was served before, and wait until it answers."""
    store = open_store(settings)
    with store.session() as session:
        row = aliases.roll_back(session, parsed.alias, actor())
    say(f"{row.name} is to be {row.checkpoint} again (version {row.version})")
    if not parsed.no_wait:
        _wait(settings, store, row)


def list_aliases(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        rows = aliases.listed(session)
    columns = ("alias", "promoted to", "answered by", "version", "options", "note")
    print_table(
        columns,
        [
            (r["alias"], r["checkpoint"], r["served"] or "nothing yet", str(r["version"]), _options(r["options"]),
             r["note"] or "")
            for r in rows
        ],
    )  # fmt: skip


def remove_alias(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        aliases.remove(session, parsed.alias, actor())
    say(f"{parsed.alias} is removed")


def list_engines(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        oldest = (clock(session) - STALE).isoformat()
        rows = engines.listed(session)
        known = {row["checkpoint"] for row in rows}
        requests = [checkpoint for checkpoint in engines.requested(session) if checkpoint not in known]
    lines = [
        (row["checkpoint"], _state(row, oldest), _plan(row["plan"]), row["url"], row["supervisor"], row["detail"] or "")
        for row in rows
    ]
    lines += [(checkpoint, "requested", "", "", "no supervisor", "") for checkpoint in requests]
    print_table(("checkpoint", "state", "plan", "url", "supervisor", "reason"), lines)


def list_audit(settings: Settings, parsed: argparse.Namespace) -> None:
    with open_store(settings).session() as session:
        rows = audit.listed(session, parsed.subject, parsed.limit)
    print_table(
        ("time", "who", "action", "of", "detail"),
        [(r["time"], r["actor"], r["action"], r["subject"], _detail(r["detail"])) for r in reversed(rows)],
    )


def _wait(settings: Settings, store: Store, promoted: Alias) -> None:
    """Wait until the target answers. Raises `UserError` when it was taken back, replaced, or takes too long."""
    alias, checkpoint, version = promoted.name, promoted.checkpoint, promoted.version
    began, served = time.monotonic(), promoted.served
    with progress.bar(f"waiting until {checkpoint} is served"):
        while time.monotonic() - began < settings.engine_start_seconds:
            with store.session() as session:
                row = session.get(Alias, alias)
                rows = _rows(session, checkpoint)
                if row is None or row.version != version:
                    raise UserError(_why_changed(session, alias, checkpoint))
            served = row.served
            if served == checkpoint:
                say(f"{alias} is answered by {checkpoint}")
                return
            if not rows and time.monotonic() - began > SUPERVISOR_SECONDS:
                say("no supervisor is running: it will be served when one starts")
                return
            time.sleep(POLL_SECONDS)
    raise UserError(
        f"{alias} is not answered by {checkpoint} after {settings.engine_start_seconds:.0f} s, and still by "
        f"{served or 'nothing'}: its supervisor goes on trying, see `python -m service engines list`"
    )


def _why_changed(session: Session, alias: str, checkpoint: str) -> str:
    """Why an alias is not what the command set it to any more."""
    last = audit.listed(session, alias, 1)
    if last and last[0]["action"] == "take_back" and last[0]["detail"]["previous"] == checkpoint:
        target = last[0]["detail"]["checkpoint"]
        outcome = f"{alias} stays {target}" if target else f"{alias} is not set"
        return f"{outcome}: {last[0]['detail']['reason']}"
    who = f" by {last[0]['actor']}" if last else ""
    return f"{alias} was changed meanwhile{who}: see `python -m service audit {alias}`"


def _rows(session: Session, checkpoint: str) -> list[Engine]:
    oldest = clock(session) - STALE
    rows = session.scalars(select(Engine).where(Engine.checkpoint == checkpoint))
    return [row for row in rows if row.heartbeat > oldest]


def _checkpoint_id(session: Session, store: Path, reference: str) -> str:
    """The id of a checkpoint of the store (by id, stage or folder), or of one that only an engine elsewhere has."""
    if "/" not in reference and session.scalar(select(Engine.kind).where(Engine.checkpoint == reference)):
        return reference
    checkpoint = resolve(reference, store)
    if checkpoint.path.parent.resolve() != store.resolve():
        raise UserError(f"{checkpoint.path} is not in the store {store}: adopt it there first")
    return checkpoint.id


def _say_baseline(session: Session, alias: str, baseline: str) -> None:
    row = session.get(Alias, alias)
    if row is not None and row.served not in (None, baseline):
        say(f"note: the gate compared with {baseline}, and {alias} is answered by {row.served}")


def _state(row: EngineRow, oldest: str) -> str:
    if row["heartbeat"] < oldest:
        return "gone"
    return "given up" if row["given_up"] else str(row["state"])


def _plan(plan: dict[str, Any]) -> str:
    parts = [f"context {plan['context']}"] if plan.get("context") else []
    parts += [f"{plan['total_bytes'] / 2**30:.1f} GiB"] if plan.get("total_bytes") else []
    parts += [f"{plan['threads']} threads"] if plan.get("threads") else []
    return ", ".join([*parts, *([_options(plan["options"])] if plan.get("options") else [])])


def _options(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())


def _with_options(options: dict[str, Any] | None) -> str:
    return f" with {_options(options)}" if options else ""


def _detail(detail: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str | int) else json.dumps(value)}"
        for name, value in detail.items()
        if value is not None
    )
