"""Who may do what: callers with keys, labelers with sessions, and the access level of every route."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match

from service import cookies
from service.errors import ApiError
from service.labelers import SignedIn, add_visitor, find_session
from service.settings import SCOPES, Settings
from service.state import gateway_of
from service.store.database import Store

OPEN_SCOPES = ("generate", "score")  # what open mode on loopback allows without a key
IMPLIED = {"eval": ("generate", "score"), "admin": SCOPES}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Caller:
    """Who made a request: a key (or nobody, in open mode) and what it may do."""

    name: str
    scopes: frozenset[str]
    id: str = ""  # of the key

    @property
    def actor(self) -> str:
        """Who did it, for the audit: names of keys are chosen freely and are not unique."""
        return f"{self.name} (key {self.id[:8]})" if self.id else self.name


def require(scope: str) -> Callable[..., Any]:
    """A dependency that admits keys with `scope` and returns the `Caller`."""
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope}")

    async def check(request: Request) -> Caller:
        return await admit(request, scope)

    check.access = f"key:{scope}"  # type: ignore[attr-defined]  # read by `access_of`
    return check


async def admit(request: Request, scope: str) -> Caller:
    """The caller, if it has `scope`. Raises `ApiError` 401 without a valid key and 403 without the scope."""
    caller = await identify(request)
    if caller is None:
        if gateway_of(request).settings.open and scope in OPEN_SCOPES:
            return Caller("open", frozenset(OPEN_SCOPES))
        raise unauthorized(request)
    if scope not in caller.scopes:
        raise ApiError(403, f"this key lacks the scope `{scope}`", code="insufficient_scope")
    return caller


async def admit_before_body(request: Request) -> None:
    """Refuse who has no key, or no session cookie, before the body is read. The route checks again, and more.

    Raises:
        ApiError: 401 or 403.
    """
    scope = request.scope
    access = next((access_of(r) for r in request.app.routes if r.matches(scope)[0] is Match.FULL), None) or ""
    if access.startswith("key:"):
        await admit(request, access.removeprefix("key:"))
    elif access == "labeler" and cookies.name(scope, gateway_of(request).settings) not in request.cookies:
        raise no_session()


def no_session() -> ApiError:
    return ApiError(401, "no labeler session: sign in at /sign-in", code="no_session")


Admin = Annotated[Caller, Depends(require("admin"))]


async def open_to_all() -> None:
    """Declares a route that needs neither key nor session."""


open_to_all.access = "open"  # type: ignore[attr-defined]  # read by `access_of`


async def identify(request: Request) -> Caller | None:
    """The caller behind `Authorization: Bearer`, None without a valid key."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        return None
    return await gateway_of(request).keys.find(secret.strip())


def unauthorized(request: Request) -> ApiError:
    has_key = "authorization" in request.headers
    message = "the key is wrong, expired or revoked" if has_key else "no key: send `Authorization: Bearer KEY`"
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


async def labeler_session(request: Request) -> SignedIn:
    """The dependency of pages and their requests: a signed-in labeler.

    In open mode a browser without a session gets one under a new pseudonym. Requests that change something
    need the session's CSRF token, in the header `X-CSRF-Token` or the form field `csrf`.

    Raises:
        ApiError: 401 without a session, 403 without the CSRF token.
    """
    store, settings = gateway_of(request).store, gateway_of(request).settings
    secret = request.cookies.get(cookies.name(request.scope, settings))
    signed = await asyncio.to_thread(_read_session, store, secret) if secret else None
    if request.method not in SAFE_METHODS:
        if signed is None:
            raise no_session()
        await _check_csrf(request, signed)
    if signed is None:
        if not settings.open:
            raise no_session()
        _check_own_visit(request)
        signed = await asyncio.to_thread(_open_anonymous, request, store, settings)
    return signed


labeler_session.access = "labeler"  # type: ignore[attr-defined]  # read by `access_of`


def _check_own_visit(request: Request) -> None:
    """Raise `ApiError` 401 where a picture or a program of another site asks: each would add a labeler."""
    foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    page = request.headers.get("sec-fetch-dest", "document") == "document"
    if foreign and not page:
        raise ApiError(401, "open this page itself: other sites get no session", code="no_session")


def _read_session(store: Store, secret: str) -> SignedIn | None:
    with store.session() as session:
        return find_session(session, secret)


def _open_anonymous(request: Request, store: Store, settings: Settings) -> SignedIn:
    with store.session() as session:
        secret, signed = add_visitor(session, settings.session_hours)
    cookies.remember(request, secret)
    return signed


async def _check_csrf(request: Request, signed: SignedIn) -> None:
    token = request.headers.get("x-csrf-token")
    if token is None and request.headers.get("content-type", "").startswith(
        ("application/x-www-form-urlencoded", "multipart/form-data")
    ):
        field = (await request.form()).get("csrf")
        token = field if isinstance(field, str) else None
    if not secrets.compare_digest((token or "").encode(), signed.csrf.encode()):
        raise ApiError(403, "the CSRF token is missing or wrong: reload the page", code="csrf")


def access_of(route: BaseRoute) -> str | None:
    """The declared access level of a route: `open`, `labeler`, `key:SCOPE`; None when it declares none."""
    if not isinstance(route, APIRoute):
        return getattr(route, "access", None)
    queue: list[Dependant] = [route.dependant]
    while queue:
        dependant = queue.pop()
        access = getattr(dependant.call, "access", None)
        if access:
            return str(access)
        queue.extend(dependant.dependencies)
    return None


def undeclared(app: FastAPI) -> list[str]:
    """Paths of the routes that declare no access level."""
    return [getattr(route, "path", str(route)) for route in app.routes if access_of(route) is None]
