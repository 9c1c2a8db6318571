"""Engines that others run: their addresses, and the keys that some of them want."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import aiohttp

from service.settings import Settings
from training.artifacts.errors import UserError

Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]


def remote_engines(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Checkpoint -> base URLs of its engines, from ID=URL arguments; an ID may stand several times.

    Raises:
        UserError: an argument is not ID=URL.
    """
    urls: dict[str, list[str]] = {}
    for text in arguments:
        name, mark, url = text.partition("=")
        if not mark or not name or not _is_url(url):
            raise UserError(f"--engine {text!r} is not ID=URL, such as my-model=http://gpu1:8000")
        base = base_url(url)
        if base not in urls.setdefault(name, []):
            urls[name].append(base)
    return urls


def base_url(url: str) -> str:
    """An engine's address without the slash and the /v1 that clients of OpenAI's write behind it."""
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/")


def key_of(settings: Settings, url: str) -> str | None:
    """The key of an engine, by its address."""
    keys = {base_url(address): key.get_secret_value() for address, key in settings.engine_keys.items()}
    return keys.get(base_url(url))


def authorization(settings: Settings) -> Callable[[aiohttp.ClientRequest, Handler], Awaitable[aiohttp.ClientResponse]]:
    """What sends each engine its key, whatever route of the gateway asks it. The store holds no keys."""
    keys = {base_url(address): key.get_secret_value() for address, key in settings.engine_keys.items()}

    async def send(request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        if keys:
            url = str(request.url)
            key = next((key for address, key in keys.items() if url.startswith(f"{address}/")), None)
            if key is not None:
                request.headers["Authorization"] = f"Bearer {key}"
        return await handler(request)

    return send


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:  # a port that is not a number
        return False
