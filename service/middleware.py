"""What surrounds every request: Host and Origin checks, size limit, security headers, cookies, metrics."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import auth, metrics
from service.errors import ApiError, answer
from service.settings import LOOPBACK_NAMES, Settings

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class RequestChecks:
    """Plain ASGI, so that streams pass through untouched."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.hosts = {*LOOPBACK_NAMES, settings.host.lower(), *(host.lower() for host in settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        status = 500

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._finish_headers(MutableHeaders(scope=message), state)
            await send(message)

        try:
            refused = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
            if refused is not None:
                await answer(refused)(scope, receive, send_guarded)
            else:
                await self.app(scope, _limited(receive, self.settings.max_body_bytes), send_guarded)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            metrics.observe(route, state.get("model", ""), state.get("status", status), time.perf_counter() - began)

    def _refusal(self, method: str, path: str, headers: Headers) -> ApiError | None:
        """Why a request is refused before any route sees it, or None."""
        host = headers.get("host", "")
        # Probes of an orchestrator address the pod by its number; these routes tell nothing else.
        if _name(host) not in self.hosts and not path.startswith("/health/"):
            return ApiError(403, f"Host {host!r} is not allowed: add it to ALIGNLOOP_ALLOWED_HOSTS", code="bad_host")
        if method not in auth.SAFE_METHODS:
            origin = headers.get("origin")
            own = origin is not None and urlsplit(origin).netloc == host
            if origin is not None and not own and origin not in self.settings.allowed_origins:
                return ApiError(403, f"Origin {origin!r} is not allowed", code="bad_origin")
            if origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                return ApiError(403, "requests from other sites are not allowed", code="bad_origin")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.settings.max_body_bytes:
            return too_large(self.settings.max_body_bytes)
        return None

    def _finish_headers(self, headers: MutableHeaders, state: dict[str, Any]) -> None:
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        cookie = state.get("session_cookie")
        if cookie is not None:
            age = int(self.settings.session_hours * 3600) if cookie else 0
            secure = "" if self.settings.on_loopback else "; Secure"
            headers.append(
                "set-cookie", f"{auth.COOKIE}={cookie}; HttpOnly; Max-Age={age}; Path=/; SameSite=Lax{secure}"
            )


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")


def _name(host: str) -> str:
    """A Host header without its port, in lower case."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()


def _limited(receive: Receive, limit: int) -> Receive:
    """Count the body as it comes: chunked requests announce no length."""
    total = 0

    async def receive_limited() -> Message:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > limit:
                raise too_large(limit)
        return message

    return receive_limited
