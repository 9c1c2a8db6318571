"""Signing labelers in and out."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse
from pydantic import Field
from starlette.responses import Response

from service import auth
from service.auth import SignedIn, labeler_session, open_to_all
from service.schemas import Body
from service.store.models import LabelerSession

router = APIRouter()


class Token(Body):
    """A labeler's sign-in token."""

    token: str = Field(max_length=200)


@router.post("/api/session", dependencies=[Depends(open_to_all)])
async def sign_in(request: Request, body: Token) -> dict[str, Any]:
    """Exchange a labeler's token for a session cookie. Returns what `GET /api/session` does."""
    state = request.app.state

    def exchange() -> tuple[str, SignedIn]:
        with state.store.session() as session:
            return auth.sign_in(session, body.token, state.settings.session_hours)

    secret, signed = await asyncio.to_thread(exchange)
    auth.remember_cookie(request, secret)
    return _described(signed)


@router.get("/api/session")
async def session(signed: Annotated[SignedIn, Depends(labeler_session)]) -> dict[str, Any]:
    """Who is signed in, and the CSRF token to send as `X-CSRF-Token`."""
    return _described(signed)


@router.post("/sign-out")
async def sign_out(request: Request, signed: Annotated[SignedIn, Depends(labeler_session)]) -> Response:
    """End the session here and in the store."""
    secret = request.cookies[auth.COOKIE]

    def forget() -> None:
        with request.app.state.store.session() as session:
            row = session.get(LabelerSession, auth.digest(secret))
            if row is not None:
                session.delete(row)

    await asyncio.to_thread(forget)
    auth.remember_cookie(request, "")
    return RedirectResponse("/sign-in", 303)


def _described(signed: SignedIn) -> dict[str, Any]:
    return {"labeler": signed.pseudonym, "group": signed.group, "csrf": signed.csrf}
