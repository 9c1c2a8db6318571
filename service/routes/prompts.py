"""Prompts for labelers, imported over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from typing_extensions import TypedDict

from service.auth import Caller, require
from service.errors import error_answers
from service.preferences.prompts import import_rows
from service.schemas import Body

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
async def import_prompts(body: Import, request: Request, _: Annotated[Caller, Depends(require("admin"))]) -> Imported:
    """Add prompts that the store does not hold, and say which rows were left out and why."""
    store = request.app.state.store

    def run() -> Imported:
        report = import_rows(store, body.prompts, correct=body.correct)
        return {
            "imported": report.imported,
            "corrected": report.corrected,
            "skipped": dict(report.skipped),
            "ignored": dict(report.ignored),
        }

    return await asyncio.to_thread(run)
