"""The short commands: keys, labelers, export and import."""

from __future__ import annotations

import argparse

from service.administration import data
from service.console import CONSOLE, actor, open_store
from service.preferences import export as preferences_export
from service.preferences import prompts
from service.settings import Settings
from training.artifacts import progress


def migrate(settings: Settings, parsed: argparse.Namespace) -> None:
    """Every command does the same first: this one is for an upgrade that is a step of its own."""
    open_store(settings).close()
    CONSOLE.print("the tables of the store are up to date", highlight=False)


def export(settings: Settings, parsed: argparse.Namespace) -> None:
    store = open_store(settings)
    with store.session() as session:
        done = preferences_export.export_file(session, parsed.file)
    with store.session() as session:
        data.record_export(session, actor(), done)
    CONSOLE.print(f"{done.rows} comparisons in {parsed.file}, sha256 {done.sha256}", highlight=False)
    if done.mended:
        CONSOLE.print(f"  {done.mended} hold half a character, written as `?`", highlight=False)


def import_rows(settings: Settings, parsed: argparse.Namespace) -> None:
    """Read prompts into the store, a batch at a time: labelers answer meanwhile, and the same command resumes."""
    store = open_store(settings)
    with progress.bar("importing prompts") as bar:
        report = prompts.import_prompts(store, parsed.source, correct=parsed.correct, done=bar.advance)
    with store.session() as session:
        data.record_import(session, actor(), report)
    corrected = f", {report.corrected} corrected" if report.corrected else ""
    CONSOLE.print(f"{report.imported} prompts imported{corrected}", highlight=False)
    for reason, count in report.skipped.most_common():
        CONSOLE.print(f"  {count} skipped: {reason}", highlight=False)
    if report.ignored:
        CONSOLE.print(f"  ignored columns: {', '.join(sorted(report.ignored))}", highlight=False)
