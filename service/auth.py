"""Who may do what: API keys with scopes, labelers' sessions, and the access level of every route."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.routing import BaseRoute

from service.errors import ApiError
from service.settings import SCOPES, Settings
from service.store.database import Store
from service.store.models import Key, Labeler, LabelerSession, now
from training.artifacts.errors import UserError

OPEN_SCOPES = ("generate", "score")  # what open mode on loopback allows without a key
IMPLIED = {"eval": ("generate", "score"), "admin": SCOPES}
COOKIE = "alignloop_session"
CACHE_SECONDS = 1.0
CACHE_SIZE = 10_000
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Caller:
    """Who made a request: a key (or nobody, in open mode) and what it may do."""

    name: str
    scopes: frozenset[str]
    id: str = ""  # of the key


@dataclass(frozen=True)
class SignedIn:
    """A labeler's session. `csrf` is the token that pages put into their requests."""

    labeler_id: str
    name: str
    pseudonym: str
    group: str | None
    csrf: str


def digest(secret: str) -> str:
    """What the store keeps of a secret. Secrets are 256 random bits, so a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """Looks keys up by hash. An answer is kept for a second, so that a revoked key stops working at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[float, Caller | None]] = {}

    async def find(self, secret: str) -> Caller | None:
        hashed = digest(secret)
        entry = self._known.get(hashed)
        if entry is None or time.monotonic() - entry[0] > CACHE_SECONDS:
            if len(self._known) >= CACHE_SIZE:
                self._known.clear()
            entry = (time.monotonic(), await asyncio.to_thread(self._read, hashed))
            self._known[hashed] = entry
        return entry[1]

    def _read(self, hashed: str) -> Caller | None:
        with self._store.session() as session:
            key = session.scalar(select(Key).where(Key.secret_hash == hashed))
            if key is None or key.revoked or (key.expires and key.expires <= now()):
                return None
            scopes = set(key.scopes)
            for scope in key.scopes:
                scopes.update(IMPLIED.get(scope, ()))
            return Caller(key.name, frozenset(scopes), str(key.id))


def require(scope: str) -> Callable[..., Any]:
    """A dependency that admits keys with `scope` and returns the `Caller`."""
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope}")

    async def check(request: Request) -> Caller:
        caller = await identify(request)
        if caller is None:
            settings: Settings = request.app.state.settings
            if settings.open and scope in OPEN_SCOPES:
                return Caller("open", frozenset(OPEN_SCOPES))
            raise unauthorized(request)
        if scope not in caller.scopes:
            raise ApiError(403, f"this key lacks the scope `{scope}`", code="insufficient_scope")
        return caller

    check.access = f"key:{scope}"  # type: ignore[attr-defined]  # read by `access_of`
    return check


async def open_to_all() -> None:
    """Declares a route that needs neither key nor session."""


open_to_all.access = "open"  # type: ignore[attr-defined]  # read by `access_of`


async def identify(request: Request) -> Caller | None:
    """The caller behind `Authorization: Bearer`, None without a valid key."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        return None
    keys: Keys = request.app.state.keys
    return await keys.find(secret.strip())


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
    store: Store = request.app.state.store
    settings: Settings = request.app.state.settings
    secret = request.cookies.get(COOKIE)
    signed = await asyncio.to_thread(_read_session, store, secret) if secret else None
    if request.method not in SAFE_METHODS:
        if signed is None:
            raise ApiError(401, "no labeler session: sign in at /sign-in", code="no_session")
        await _check_csrf(request, signed)
    if signed is None:
        if not settings.open:
            raise ApiError(401, "no labeler session: sign in at /sign-in", code="no_session")
        signed = await asyncio.to_thread(_open_anonymous, request, store, settings)
    return signed


labeler_session.access = "labeler"  # type: ignore[attr-defined]  # read by `access_of`


async def _check_csrf(request: Request, signed: SignedIn) -> None:
    token = request.headers.get("x-csrf-token")
    if token is None and request.headers.get("content-type", "").startswith(
        ("application/x-www-form-urlencoded", "multipart/form-data")
    ):
        field = (await request.form()).get("csrf")
        token = field if isinstance(field, str) else None
    if not secrets.compare_digest((token or "").encode(), signed.csrf.encode()):
        raise ApiError(403, "the CSRF token is missing or wrong: reload the page", code="csrf")


def _read_session(store: Store, secret: str) -> SignedIn | None:
    with store.session() as session:
        row = session.get(LabelerSession, digest(secret))
        if row is None or row.expires <= now():
            return None
        labeler = session.get_one(Labeler, row.labeler_id)
        return None if labeler.disabled else _signed(labeler, row)


def _open_anonymous(request: Request, store: Store, settings: Settings) -> SignedIn:
    with store.session() as session:
        labeler = add_labeler(session, f"visitor {secrets.token_hex(6)}")[0]
        secret, signed = open_session(session, labeler, settings.session_hours)
    remember_cookie(request, secret)
    return signed


def add_labeler(session: Session, name: str, group: str | None = None) -> tuple[Labeler, str]:
    """Add a labeler. Returns the row and the sign-in token, which cannot be read again.

    Raises:
        UserError: the name is taken.
    """
    if session.scalar(select(Labeler.id).where(Labeler.name == name)):
        raise UserError(f"there is a labeler {name!r} already: choose another name")
    token = secrets.token_urlsafe(32)
    labeler = Labeler(name=name, pseudonym=f"labeler-{secrets.token_hex(6)}", group=group, token_hash=digest(token))
    session.add(labeler)
    session.flush()
    return labeler, token


def open_session(session: Session, labeler: Labeler, hours: float) -> tuple[str, SignedIn]:
    """Start a labeler's session. Returns the cookie's secret and the session."""
    secret = secrets.token_urlsafe(32)
    row = LabelerSession(
        secret_hash=digest(secret),
        labeler_id=labeler.id,
        csrf=secrets.token_urlsafe(24),
        expires=now() + timedelta(hours=hours),
    )
    session.add(row)
    session.flush()
    return secret, _signed(labeler, row)


def sign_in(session: Session, token: str, hours: float) -> tuple[str, SignedIn]:
    """Exchange a labeler's sign-in token for a session. Raises `ApiError` 401."""
    labeler = session.scalar(select(Labeler).where(Labeler.token_hash == digest(token.strip())))
    if labeler is None or labeler.disabled:
        raise ApiError(401, "the sign-in token is wrong or disabled", code="invalid_token")
    return open_session(session, labeler, hours)


def remember_cookie(request: Request, secret: str) -> None:
    """Have the middleware set the session's cookie, whatever kind of response the route returns."""
    request.state.session_cookie = secret


def add_key(session: Session, name: str, scopes: Iterable[str], days: float | None = None) -> tuple[Key, str]:
    """Add an API key. Returns the row and the key itself, which cannot be read again.

    Raises:
        UserError: an unknown scope, or none.
    """
    names = sorted(set(scopes))
    unknown = [scope for scope in names if scope not in SCOPES]
    if unknown or not names:
        raise UserError(f"unknown scope {unknown[0] if unknown else ''!r}: use {', '.join(SCOPES)}")
    secret = f"al-{secrets.token_urlsafe(32)}"
    expires = None if days is None else now() + timedelta(days=days)
    key = Key(name=name, secret_hash=digest(secret), prefix=secret[:9], scopes=names, expires=expires)
    session.add(key)
    session.flush()
    return key, secret


def has_keys(session: Session) -> bool:
    """Whether any key works now."""
    current = session.scalars(select(Key).where(Key.revoked.is_(None)))
    return any(key.expires is None or key.expires > now() for key in current)


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


def _signed(labeler: Labeler, row: LabelerSession) -> SignedIn:
    return SignedIn(labeler.id, labeler.name, labeler.pseudonym, labeler.group, row.csrf)
