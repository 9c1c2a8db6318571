"""What goes into the store and out of it in bulk leaves an audit row."""

from __future__ import annotations

from sqlalchemy.orm import Session

from service.administration.records import record
from service.preferences.export import Exported
from service.preferences.prompts import ImportReport


def record_import(session: Session, actor: str, report: ImportReport) -> None:
    """Say who imported prompts, and how many."""
    counts = {"imported": report.imported, "corrected": report.corrected, "skipped": report.skipped.total()}
    record(session, actor, "import_prompts", "prompts", **counts)


def record_export(session: Session, actor: str, exported: Exported) -> None:
    """Say who took the comparisons out, and which, by their hash."""
    record(session, actor, "export", "comparisons", rows=exported.rows, sha256=exported.sha256)
