"""What surrounds every request: Host and Origin checks, CORS, size limit, security headers, cookies, metrics."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import auth, cookies, metrics
from service.errors import ApiError, answer
from service.settings import LOOPBACK_NAMES, Settings

log = logging.getLogger(__name__)
CHECKPOINT_HEADER = "x-alignloop-checkpoint"  # of an engine's answer: what gave it, whatever the alias moves to
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
SHARED = ("/v1/", "/score", "/tokenize")  # what pages of listed origins may call, with a key
METHODS = "GET, POST, DELETE, OPTIONS"
HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{0,1000}")


@dataclass
class Exchange:
    """What is known of one request while it is answered."""

    status: int = 500
    started: bool = False
    too_large: bool = False
    replaced: bool = False


class RequestChecks:
    """Plain ASGI, so that streams pass through untouched."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        names = (settings.host, *settings.allowed_hosts, urlsplit(settings.public_url or "").netloc)
        self.hosts = {*LOOPBACK_NAMES, *(_name(in_brackets(name)) for name in names if name)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        exchange = Exchange()

        async def send_checked(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status, exchange.started = message["status"], True
                self._finish_headers(MutableHeaders(scope=message), scope)
            await send(message)

        async def send_of_app(message: Message) -> None:
            # Whoever reads the body may turn the failure into an answer of its own: this one goes out instead.
            if exchange.too_large and not exchange.started:
                exchange.replaced = True
                await answer(too_large(self.settings.max_body_bytes))(scope, receive, send_checked)
            if not exchange.replaced:
                await send_checked(message)

        try:
            response = await self._response(scope)
            if response is not None:
                await response(scope, receive, send_checked)
            else:
                await self.app(scope, self._limited(receive, exchange), send_of_app)
        except Exception:
            if exchange.started and not exchange.replaced:
                raise  # the connection must break: half an answer is out
            if not exchange.too_large:
                log.exception("%s %s failed", scope["method"], scope["path"])
            if not exchange.started:
                failure = ApiError(500, "the service failed; its log has the traceback")
                refusal = too_large(self.settings.max_body_bytes) if exchange.too_large else failure
                await answer(refusal)(scope, receive, send_checked)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            metrics.observe(
                route, state.get("model", ""), state.get("status", exchange.status), time.perf_counter() - began
            )

    async def _response(self, scope: Scope) -> Response | None:
        """The answer to a request that no route is to see, or None."""
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        refusal = self._refusal(method, path, headers)
        if refusal is not None:
            return answer(refusal)
        if method == "OPTIONS" and "access-control-request-method" in headers and self._shared_with(path, headers):
            return Response(status_code=204)
        if method not in auth.SAFE_METHODS:
            try:
                await auth.admit_before_body(Request(scope))
            except ApiError as error:
                return answer(error)
            except SQLAlchemyError:
                pass  # the route meets the same, and has an answer to it
        return None

    def _refusal(self, method: str, path: str, headers: Headers) -> ApiError | None:
        """Why a request is refused whatever its route, or None."""
        host = headers.get("host", "")
        if _name(host) not in self.hosts and not _is_probe(path, host):
            return ApiError(403, f"Host {host!r} is not allowed: add it to ALIGNLOOP_ALLOWED_HOSTS", code="bad_host")
        # No page of another site can send a key of its visitors: only cookies and open mode need their origin checked.
        if method not in auth.SAFE_METHODS and not headers.get("authorization", "").lower().startswith("bearer "):
            origin = headers.get("origin")
            if origin is not None and not self._is_own(origin, host) and origin not in self.settings.allowed_origins:
                return ApiError(403, f"Origin {origin!r} is not allowed", code="bad_origin")
            if origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                return ApiError(403, "requests from other sites are not allowed", code="bad_origin")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.settings.max_body_bytes:
            return too_large(self.settings.max_body_bytes)
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        return origin in (f"http://{host}", f"https://{host}", self.settings.public_url)

    def _shared_with(self, path: str, headers: Headers) -> str | None:
        """The origin of a page that may read the answer."""
        origin = headers.get("origin")
        return origin if origin in self.settings.allowed_origins and path.startswith(SHARED) else None

    def _limited(self, receive: Receive, exchange: Exchange) -> Receive:
        """Count the body as it comes: chunked requests announce no length."""
        total = 0

        async def receive_limited() -> Message:
            nonlocal total
            message = await receive()
            if message["type"] == "http.request":
                total += len(message.get("body", b""))
                if total > self.settings.max_body_bytes:
                    exchange.too_large = True
                    raise too_large(self.settings.max_body_bytes)
            return message

        return receive_limited

    def _finish_headers(self, headers: MutableHeaders, scope: Scope) -> None:
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        if model := scope["state"].get("model"):
            headers[CHECKPOINT_HEADER] = model
        request = Headers(scope=scope)
        if self.settings.allowed_origins and scope["path"].startswith(SHARED):
            headers.add_vary_header("Origin")
        if origin := self._shared_with(scope["path"], request):
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = "*"
            if scope["method"] == "OPTIONS":
                requested = request.get("access-control-request-headers", "")
                headers["access-control-allow-methods"] = METHODS
                headers["access-control-allow-headers"] = requested if HEADER_NAMES.fullmatch(requested) else ""
                headers["access-control-max-age"] = "600"
        secret = scope["state"].get("session_cookie")
        if secret is not None:
            headers.append("set-cookie", cookies.header(scope, self.settings, secret))


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")


def in_brackets(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses need brackets."""
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host


def _is_probe(path: str, host: str) -> bool:
    """Orchestrators and Prometheus address a pod by its number. No page of another site can: its name is in Host."""
    if path.startswith("/health/"):
        return True
    try:
        ipaddress.ip_address(_name(host).strip("[]"))
    except ValueError:
        return False
    return path == "/metrics"


def _name(host: str) -> str:
    """A Host header without its port, in lower case."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()
