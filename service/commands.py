"""The short commands: keys, labelers, aliases, export and import."""

from __future__ import annotations

import argparse
import getpass
import time
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from service import aliases
from service.endpoints import STALE
from service.engines.desired import REQUESTED
from service.preferences import export as preferences_export
from service.preferences import prompts
from service.settings import Settings
from service.store.database import Store
from service.store.models import Engine, now
from training.artifacts import progress
from training.artifacts.checkpoints import resolve
from training.artifacts.errors import UserError

CONSOLE = Console(stderr=True)
SUPERVISOR_SECONDS = 5.0  # a living supervisor has a row for a new checkpoint long before


def promote(settings: Settings, parsed: argparse.Namespace) -> None:
    """Change the alias and wait until the checkpoint is served; when its engine fails, change it back."""
    aliases.check_name(parsed.alias)
    checkpoint = resolve(parsed.checkpoint, settings.checkpoints)
    kind = parsed.alias.split("/")[0]
    if checkpoint.manifest.kind != kind:
        raise UserError(f"{checkpoint.id} is a {checkpoint.manifest.kind} model: it cannot be {parsed.alias}")
    if checkpoint.path.parent.resolve() != settings.checkpoints.resolve():
        raise UserError(f"{checkpoint.path} is not in the store {settings.checkpoints}: adopt it there first")
    store = _store(settings)
    with store.session() as session:
        version = aliases.promote(session, parsed.alias, checkpoint.id, _actor()).version
    CONSOLE.print(f"{parsed.alias} is {checkpoint.id} (version {version})", highlight=False)
    if not parsed.no_wait:
        _wait(settings, store, parsed.alias, checkpoint.id, version)


def rollback(settings: Settings, parsed: argparse.Namespace) -> None:
    store = _store(settings)
    with store.session() as session:
        alias = aliases.rollback(session, parsed.alias, _actor())
    CONSOLE.print(f"{parsed.alias} is {alias.checkpoint} again (version {alias.version})", highlight=False)
    if not parsed.no_wait:
        _wait(settings, store, parsed.alias, alias.checkpoint, alias.version)


def export(settings: Settings, parsed: argparse.Namespace) -> None:
    with _store(settings).session() as session:
        digest, count = preferences_export.export_file(session, parsed.file)
    CONSOLE.print(f"{count} comparisons in {parsed.file}, sha256 {digest}", highlight=False)


def import_rows(settings: Settings, parsed: argparse.Namespace) -> None:
    with _store(settings).session() as session:
        report = prompts.import_prompts(session, parsed.source, correct=parsed.correct)
    corrected = f", {report.corrected} corrected" if report.corrected else ""
    CONSOLE.print(f"{report.imported} prompts imported{corrected}", highlight=False)
    for reason, count in report.skipped.most_common():
        CONSOLE.print(f"  {count} skipped: {reason}", highlight=False)
    if report.ignored:
        CONSOLE.print(f"  ignored columns: {', '.join(sorted(report.ignored))}", highlight=False)


def _wait(settings: Settings, store: Store, alias: str, checkpoint: str, version: int) -> None:
    began = time.monotonic()
    with progress.bar(f"waiting until {checkpoint} is served"):
        while time.monotonic() - began < settings.engine_start_seconds:
            states = _states(store, checkpoint)
            if any(state == "ready" for state, _ in states):
                CONSOLE.print(f"{checkpoint} is served", highlight=False)
                return
            failed = next((detail for state, detail in states if state == "failed"), None)
            if failed is not None:
                _take_back(store, alias, version)
                raise UserError(f"{alias} stays as it was: {failed}")
            if not states and time.monotonic() - began > SUPERVISOR_SECONDS:
                CONSOLE.print("no supervisor is running: it will be served when one starts", highlight=False)
                return
            time.sleep(0.5)
    _take_back(store, alias, version)
    raise UserError(f"{alias} stays as it was: {checkpoint} was not ready in {settings.engine_start_seconds:.0f} s")


def _take_back(store: Store, alias: str, version: int) -> None:
    """Undo this promotion, unless somebody promoted again meanwhile."""
    with store.session() as session:
        earlier = aliases.previous_targets(session, alias)
        if earlier:
            aliases.promote(session, alias, earlier[0], _actor(), version=version, action="rollback")
        else:
            aliases.remove(session, alias, _actor(), version=version)


def _states(store: Store, checkpoint: str) -> list[tuple[str, str | None]]:
    with store.session() as session:
        rows = session.scalars(select(Engine).where(Engine.checkpoint == checkpoint, Engine.state != REQUESTED))
        return [(row.state, row.detail) for row in rows if row.heartbeat > now() - STALE]


def _store(settings: Settings) -> Store:
    store = Store(settings.database)
    store.migrate()
    return store


def _actor() -> str:
    return f"{getpass.getuser()} (command line)"


def _when(time_: object) -> str:
    return f"{time_:%Y-%m-%d %H:%M}" if time_ else ""


def _print_table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
