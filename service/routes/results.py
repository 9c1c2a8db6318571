"""Live statistics of the answers, as a page and as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from service.auth import Caller, require
from service.labelers import SignedIn
from service.preferences.statistics import Summary
from service.routes.pages import page_session, render
from service.state import gateway_of

router = APIRouter(tags=["results"])


@router.get("/api/results")
async def results(request: Request, _: Annotated[Caller, Depends(require("export"))]) -> Summary:
    """Win rates, strengths, agreement and counts of the votes that were given blind."""
    return await gateway_of(request).results.summary()


@router.get("/results", include_in_schema=False)
async def results_page(request: Request, labeler: Annotated[SignedIn, Depends(page_session)]) -> HTMLResponse:
    """The same figures for people."""
    summary = await gateway_of(request).results.summary()
    aliases: dict[str, list[str]] = {}
    for name, checkpoint in sorted(gateway_of(request).endpoints.view.aliases.items()):
        aliases.setdefault(checkpoint, []).append(name)
    return render(request, "results.html", labeler, summary=summary, aliases=aliases)
