"""The short commands: keys, labelers, aliases, export and import."""

from __future__ import annotations

import argparse
import getpass
import time
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from sqlalchemy import or_, select

from service import aliases, auth
from service.endpoints import STALE
from service.engines.desired import REQUESTED
from service.preferences import export as preferences_export
from service.preferences import prompts
from service.settings import Settings
from service.store.database import Store
from service.store.models import Audit, Engine, Key, Labeler, now
from training.artifacts import progress
from training.artifacts.checkpoints import resolve
from training.artifacts.errors import UserError

CONSOLE = Console(stderr=True)
SUPERVISOR_SECONDS = 5.0  # a living supervisor has a row for a new checkpoint long before


def add_key(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print the key, and nothing else, on standard output."""
    with _store(settings).session() as session:
        key, secret = auth.add_key(session, parsed.name, parsed.scopes, parsed.days)
        session.add(Audit(actor=_actor(), action="add_key", subject=key.name))
    CONSOLE.print(f"key of {parsed.name} ({', '.join(sorted(set(parsed.scopes)))}); it is not shown again:")
    print(secret)


def list_keys(settings: Settings, parsed: argparse.Namespace) -> None:
    with _store(settings).session() as session:
        rows = [
            (k.id, k.name, k.prefix + "…", " ".join(k.scopes), _when(k.expires), _when(k.revoked))
            for k in session.scalars(select(Key).order_by(Key.created))
        ]
    _print_table(("id", "name", "key", "scopes", "expires", "revoked"), rows)


def revoke_key(settings: Settings, parsed: argparse.Namespace) -> None:
    with _store(settings).session() as session:
        keys = session.scalars(select(Key).where(or_(Key.id == parsed.key, Key.prefix == parsed.key))).all()
        if len(keys) != 1:
            raise UserError(f"{len(keys)} keys have the id or prefix {parsed.key!r}: see `python -m service keys list`")
        keys[0].revoked = keys[0].revoked or now()
        session.add(Audit(actor=_actor(), action="revoke_key", subject=keys[0].name))


def add_labeler(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print the sign-in token, and nothing else, on standard output."""
    with _store(settings).session() as session:
        row, token = auth.add_labeler(session, parsed.name, parsed.group)
        session.add(Audit(actor=_actor(), action="add_labeler", subject=row.pseudonym))
        pseudonym = row.pseudonym
    CONSOLE.print(f"sign-in token of {parsed.name} ({pseudonym}); it is not shown again:")
    print(token)


def list_labelers(settings: Settings, parsed: argparse.Namespace) -> None:
    with _store(settings).session() as session:
        rows = [
            (row.name, row.pseudonym, row.group or "", _when(row.created), _when(row.disabled))
            for row in session.scalars(select(Labeler).order_by(Labeler.created))
        ]
    _print_table(("name", "pseudonym", "group", "added", "disabled"), rows)


def disable_labeler(settings: Settings, parsed: argparse.Namespace) -> None:
    with _store(settings).session() as session:
        row = session.scalar(select(Labeler).where(Labeler.name == parsed.name))
        if row is None:
            raise UserError(f"no labeler {parsed.name!r}: see `python -m service labelers list`")
        row.disabled = row.disabled or now()
        session.add(Audit(actor=_actor(), action="disable_labeler", subject=row.pseudonym))


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
        done = preferences_export.export_file(session, parsed.file)
    CONSOLE.print(f"{done.rows} comparisons in {parsed.file}, sha256 {done.sha256}", highlight=False)
    if done.mended:
        CONSOLE.print(f"  {done.mended} hold half a character, written as `?`", highlight=False)


def import_rows(settings: Settings, parsed: argparse.Namespace) -> None:
    """Read prompts into the store, a batch at a time: labelers answer meanwhile, and the same command resumes."""
    with progress.bar("importing prompts") as bar:
        report = prompts.import_prompts(_store(settings), parsed.source, correct=parsed.correct, done=bar.advance)
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
