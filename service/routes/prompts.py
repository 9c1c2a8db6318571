"""Prompts for labelers, imported over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from service.administration import data
from service.auth import Caller, require
from service.preferences.prompts import import_rows
from service.schemas import Body
from service.state import gateway_of

router = APIRouter(tags=["admin"])


class Import(Body):
    """Prompts with the fields of an import file; see `preferences.prompts.import_rows`."""

    checked_apart = frozenset({"prompts"})
    prompts: list[Any]
    correct: bool = False


@router.post("/admin/prompts")
async def import_prompts(
    body: Import, request: Request, caller: Annotated[Caller, Depends(require("admin"))]
) -> dict[str, Any]:
    """Add prompts that the store does not hold, and say which rows were left out and why."""
    state = gateway_of(request)

    def run() -> dict[str, Any]:
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
