"""The session's cookie: its name, and how it travels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers

from service.settings import Settings

NAME = "alignloop_session"


def secure(scope: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the browser speaks https: as `public_url` says, or else as the connection or a trusted proxy says."""
    if settings.public_url is not None:
        return settings.public_url.startswith("https:")
    return scope.get("scheme") == "https"


def name(scope: Mapping[str, Any], settings: Settings) -> str:
    """The cookie's name, with the port of the address: browsers share cookies between the ports of a host.

    Over https the prefix `__Host-` keeps other hosts of the domain from setting it.
    """
    try:
        number = urlsplit(f"//{Headers(raw=scope['headers']).get('host', '')}").port
    except ValueError:  # not a host at all
        number = None
    port = f"_{number}" if number else ""
    return f"{'__Host-' if secure(scope, settings) else ''}{NAME}{port}"


def remember(request: Request, secret: str) -> None:
    """Have the middleware set the session's cookie, whatever kind of response the route returns. Empty: delete it."""
    request.state.session_cookie = secret


def header(scope: Mapping[str, Any], settings: Settings, secret: str) -> str:
    """The value of `Set-Cookie`."""
    age = int(settings.session_hours * 3600) if secret else 0
    end = "; Secure" if secure(scope, settings) else ""
    return f"{name(scope, settings)}={secret}; HttpOnly; Max-Age={age}; Path=/; SameSite=Lax{end}"
