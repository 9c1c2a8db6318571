"""Live statistics of the answers, as a page and as JSON."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from starlette.datastructures import State

from service.auth import Caller, SignedIn, require
from service.preferences import export
from service.preferences.statistics import Summary, summarize
from service.routes.pages import page_session, render
from service.store.models import Answer

router = APIRouter(tags=["results"])


@router.get("/api/results")
async def results(request: Request, _: Annotated[Caller, Depends(require("export"))]) -> dict[str, Any]:
    """Win rates, strengths, agreement and counts of all answers that stand."""
    return asdict(await asyncio.to_thread(_summary, request.app.state))


@router.get("/results")
async def results_page(request: Request, labeler: Annotated[SignedIn, Depends(page_session)]) -> HTMLResponse:
    """The same figures for people."""
    summary = await asyncio.to_thread(_summary, request.app.state)
    aliases: dict[str, list[str]] = {}
    for name, checkpoint in sorted(request.app.state.endpoints.view.aliases.items()):
        aliases.setdefault(checkpoint, []).append(name)
    return render(request, "results.html", labeler, summary=summary, aliases=aliases)


def _summary(state: State) -> Summary:
    """Computed anew only when there are new answers: every answer, correction and undo adds a row."""
    with state.store.session() as session:
        rows = session.scalar(select(func.count()).select_from(Answer))
        known: tuple[int | None, Summary] | None = getattr(state, "results", None)
        if known is None or known[0] != rows:
            known = (rows, summarize(export.comparisons(session)))
            state.results = known
    return known[1]
