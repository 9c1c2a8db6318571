"""Signing labelers in and out."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field
from starlette.responses import Response

from service import cookies, labelers
from service.administration.records import record
from service.auth import labeler_session, open_to_all
from service.errors import error_answers
from service.labelers import SignedIn
from service.schemas import Body
from service.state import gateway_of

router = APIRouter()


class Token(Body):
    """A labeler's sign-in token."""

    token: str = Field(max_length=200)


class Session(BaseModel):
    """Who is signed in; `csrf` is to be sent as `X-CSRF-Token` with everything but reading."""

    labeler: str = Field(description="the pseudonym")
    group: str | None
    csrf: str


@router.post("/api/session", dependencies=[Depends(open_to_all)], responses=error_answers(401, 503))
async def sign_in(request: Request, body: Token) -> Session:
    """Exchange a labeler's token for a session cookie. Returns what `GET /api/session` does."""
    state = gateway_of(request)

    def exchange() -> tuple[str, SignedIn]:
        with state.store.session() as session:
            secret, signed = labelers.sign_in(session, body.token, state.settings.session_hours)
            record(session, signed.pseudonym, "sign_in", signed.pseudonym)
            return secret, signed

    secret, signed = await asyncio.to_thread(exchange)
    cookies.remember(request, secret)
    return _described(signed)


@router.get("/api/session")
async def session(signed: Annotated[SignedIn, Depends(labeler_session)]) -> Session:
    """Who is signed in, and the CSRF token to send as `X-CSRF-Token`."""
    return _described(signed)


@router.post("/sign-out", status_code=303, response_class=RedirectResponse)
async def sign_out(request: Request, signed: Annotated[SignedIn, Depends(labeler_session)]) -> Response:
    """End the session here and in the store."""
    state = gateway_of(request)
    secret = request.cookies[cookies.name(request.scope, state.settings)]

    def forget() -> None:
        with state.store.session() as session:
            labelers.sign_out(session, secret)
            record(session, signed.pseudonym, "sign_out", signed.pseudonym)

    await asyncio.to_thread(forget)
    cookies.remember(request, "")
    return RedirectResponse("/sign-in", 303)


def _described(signed: SignedIn) -> Session:
    return Session(labeler=signed.pseudonym, group=signed.group, csrf=signed.csrf)
