"""A real HTTP server with one handler for every route, and a client on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from evals.client import Client

MESSAGES = [{"role": "user", "content": "?"}]
Handler = Callable[[web.Request], Awaitable[web.Response]]


def ask(handler: Handler, use: Callable[[Client], Awaitable[Any]], **options: Any) -> Any:
    """Run a server with one handler for every route, and use a client on it."""

    async def run() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        async with TestServer(app) as server, Client(str(server.make_url("")).rstrip("/"), **options) as client:
            return await use(client)

    return asyncio.run(run())


def chat_answer(text: str) -> web.Response:
    return web.json_response({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]})


def error(status: int, message: str, **headers: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": None}}, status=status, headers=headers)
