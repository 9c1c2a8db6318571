"""Prompts for labelers, imported over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from typing_extensions import TypedDict

from service.administration import data
from service.auth import Caller, require
from service.errors import error_answers
from service.preferences.prompts import import_rows
from service.schemas import Body
from service.state import gateway_of

router = APIRouter(tags=["admin"])


class Import(Body):
    """Prompts with the fields of an import file; see `preferences.prompts.import_rows`."""

    checked_apart = frozenset({"prompts"})
    prompts: list[Any]
    correct: bool = False


class Imported(TypedDict):
    """Prompts that are new or corrected, rows left out by reason, and columns with values that nothing looked at."""

    imported: int
    corrected: int
    skipped: dict[str, int]
    ignored: dict[str, int]


@router.post("/admin/prompts", responses=error_answers(409))
async def import_prompts(
    body: Import, request: Request, caller: Annotated[Caller, Depends(require("admin"))]
) -> Imported:
    """Add prompts that the store does not hold, and say which rows were left out and why."""
    state = gateway_of(request)

    def run() -> Imported:
        report = import_rows(state.store, body.prompts, correct=body.correct)
        with state.store.session() as session:
            data.record_import(session, caller.actor, report)
        return {
            "imported": report.imported,
            "corrected": report.corrected,
            "skipped": dict(report.skipped),
            "ignored": dict(report.ignored),
        }

    return await asyncio.get_running_loop().run_in_executor(state.bulk_pool, run)
