"""A real HTTP server between a client and a service: it counts, and fails where a test wants it to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiohttp import web

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
    proxy, loop, started = Proxy(upstream), asyncio.new_event_loop(), threading.Event()

    async def serve() -> web.AppRunner:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", proxy._handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(serve())
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
