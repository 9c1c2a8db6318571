"""Pages for people: start, sign-in, compare, rank, playground. What they do goes through the JSON routes."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse

from service.auth import labeler_session, open_to_all
from service.errors import ApiError
from service.html import templates
from service.labelers import SignedIn
from service.preferences.guidelines import FLAGS, guideline
from service.state import gateway_of

router = APIRouter(tags=["pages"], default_response_class=HTMLResponse, include_in_schema=False)
# Where people land after signing in: a link could otherwise send them elsewhere. Browsers read backslashes as slashes
# and drop tabs and line ends, so that only what is certainly a path of this service passes.
OWN_PATH = re.compile(r"/(?:[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*/?)?", re.ASCII)
RANKED = 4  # responses on /rank: the least that InstructGPT's labelers ranked


async def page_session(request: Request) -> SignedIn:
    """The signed-in labeler; a browser without a session is sent to the sign-in page."""
    try:
        return await labeler_session(request)
    except ApiError as error:
        if error.status != 401:
            raise
        raise HTTPException(303, headers={"Location": f"/sign-in?next={quote(request.url.path)}"}) from None


page_session.is_page = True  # type: ignore[attr-defined]  # read by `html.is_page`
page_session.access = "labeler"  # type: ignore[attr-defined]  # read by `auth.access_of`
Labeler = Annotated[SignedIn, Depends(page_session)]


def render(request: Request, template: str, labeler: SignedIn | None, **context: Any) -> HTMLResponse:
    """A page. Pages are never cached: they hold the session's CSRF token."""
    settings = gateway_of(request).settings
    page = {"labeler": labeler, "csrf": labeler.csrf if labeler else "", "open": settings.open, **context}
    return templates.TemplateResponse(request, template, page, headers={"Cache-Control": "no-store"})


@router.get("/")
async def start(request: Request, labeler: Labeler) -> HTMLResponse:
    return render(request, "start.html", labeler)


@router.get("/sign-in", dependencies=[Depends(open_to_all)])
async def sign_in(request: Request, next: str = "/compare") -> HTMLResponse:
    target = next if OWN_PATH.fullmatch(next) else "/compare"
    return render(request, "sign_in.html", None, target=target)


@router.get("/compare")
async def compare(request: Request, labeler: Labeler) -> HTMLResponse:
    return render(request, "compare.html", labeler, k=2, **_guidance(request))


@router.get("/rank")
async def rank(request: Request, labeler: Labeler) -> HTMLResponse:
    return render(request, "rank.html", labeler, k=RANKED, flags=FLAGS, **_guidance(request))


@router.get("/playground")
async def playground(request: Request, labeler: Labeler) -> HTMLResponse:
    return render(request, "playground.html", labeler)


def _guidance(request: Request) -> dict[str, Any]:
    version = gateway_of(request).settings.guideline
    return {"guideline": guideline(version), "version": version}
