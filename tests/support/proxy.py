"""A real HTTP server between a client and a service: it counts, and fails where a test wants it to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.in_thread import served

Body = dict[str, Any]
# From path and body of a request to a status and a body to answer with, or None to forward it.
Fault = Callable[[str, Body], tuple[int, Body] | None]


class Proxy:
    """Forwards to `upstream` and notes every answered generation, as (path, body).

    Attributes:
        fault: what to answer in the service's place; changed while it runs.
        answered: requests that were forwarded and answered with 200.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.fault: Fault = lambda path, body: None
        self.answered: list[tuple[str, Body]] = []

    async def _handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        body = json.loads(raw) if raw else {}
        fault = self.fault(request.path, body)
        if fault is not None:
            return web.json_response(fault[1], status=fault[0])
        headers = {k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type")}
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self.upstream + request.path_qs, data=raw, headers=headers) as answer,
        ):
            content = await answer.read()
            if answer.status == 200 and request.method == "POST":
                self.answered.append((request.path, body))
            return web.Response(body=content, status=answer.status, content_type=answer.content_type)


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """A proxy in a thread of its own, on a free port."""
    proxy = Proxy(upstream)
    with served("*", "/{path:.*}", proxy._handle) as proxy.url:
        yield proxy
