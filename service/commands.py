"""The short commands: keys, labelers, export and import."""

from __future__ import annotations

import argparse

from sqlalchemy import or_, select

from service import auth
from service.console import CONSOLE
from service.console import actor as _actor
from service.console import open_store as _store
from service.console import print_table as _print_table
from service.console import when as _when
from service.preferences import export as preferences_export
from service.preferences import prompts
from service.settings import Settings
from service.store.models import Audit, Key, Labeler, now
from training.artifacts import progress
from training.artifacts.errors import UserError


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
