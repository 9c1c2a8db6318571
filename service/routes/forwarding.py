"""A request on its way to an engine and its answer on the way back."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import aiohttp
from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from service import metrics
from service.auth import Caller
from service.disconnects import finished_first, unless_gone
from service.endpoints import Endpoint
from service.engines import gateway, protocol
from service.engines.events import Outcome, events
from service.state import Gateway, gateway_of

GONE = 499  # as nginx counts a client that closed its connection
CLIENT_SECONDS = 60.0  # a client that takes nothing for this long counts as gone: the engine has others to answer


async def forward(
    request: Request, candidates: Sequence[Endpoint], path: str, body: Mapping[str, Any], *, keep_usage: bool
) -> Response:
    """An engine's answer to a body that was checked: whole, or its events as they come.

    Args:
        candidates: replicas of one checkpoint, see `Endpoints.candidates`.
        keep_usage: the client asked for a stream's usage.

    Raises:
        ApiError: the engine refuses the request, fails or is down.
    """
    if not body.get("stream"):
        content = await unless_gone(request, whole(gateway_of(request), candidates, path, body))
        return Response(content, media_type="application/json")
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context(_reply(gateway_of(request), candidates, path, body))
        endpoint, upstream = await unless_gone(request, opened)
        return Events(upstream, endpoint.checkpoint, path, keep_usage, stack.pop_all())


async def whole(state: Gateway, candidates: Sequence[Endpoint], path: str, body: Mapping[str, Any]) -> bytes:
    """The whole of an engine's answer, its tokens counted. Raises `ApiError`."""
    async with _reply(state, candidates, path, body) as (endpoint, upstream):
        content = await gateway.read(upstream, endpoint.checkpoint)
    usage = protocol.parse_usage(content, endpoint.checkpoint)
    metrics.count_tokens(endpoint.checkpoint, usage.counts() if usage else None)
    return content


def _reply(
    state: Gateway, candidates: Sequence[Endpoint], path: str, body: Mapping[str, Any]
) -> AbstractAsyncContextManager[tuple[Endpoint, aiohttp.ClientResponse]]:
    data, limit = gateway.encode(body), state.settings.max_concurrent
    return gateway.reply_of_any(state.http, state.endpoints, candidates, path, data, limit)


def cache_salt(caller: Caller, purpose: str = "") -> str:
    """Separates what engines keep of one key's prompts from that of others: a hit would tell what others asked."""
    return hashlib.sha256(f"{caller.id}\0{purpose}".encode()).hexdigest()


class Events(Response):
    """Server-sent events. However it ends, the connection to the engine closes, which cancels its work."""

    def __init__(
        self, upstream: aiohttp.ClientResponse, model: str, path: str, keep_usage: bool, held: AsyncExitStack
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self.upstream = upstream
        self.model = model
        self.responses = path == protocol.RESPONSES
        self.keep_usage = keep_usage
        self.held = held
        self.sending_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = Outcome()
        async with self.held:
            passing = asyncio.ensure_future(self._pass(send, outcome))
            watching = asyncio.ensure_future(self._watch(passing))
            try:
                finished = await finished_first(passing, receive) and not passing.cancelled()
            finally:
                watching.cancel()
        metrics.count_tokens(self.model, outcome.usage.counts() if outcome.usage else None)
        # The status went out before: the metric is to tell how the answer ended.
        if not finished and not outcome.complete:
            scope["state"]["status"] = GONE
        elif outcome.error is not None:
            scope["state"]["status"] = outcome.error.status
        if finished:
            passing.result()

    async def _pass(self, send: Send, outcome: Outcome) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        pieces = events(self.upstream, self.model, outcome, keep_usage=self.keep_usage, responses=self.responses)
        async for piece in pieces:
            self.sending_since = time.monotonic()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.sending_since = None
        await send({"type": "http.response.body", "body": b""})

    async def _watch(self, passing: asyncio.Task[None]) -> None:
        """End a stream whose client stays connected and reads nothing more."""
        while not passing.done():
            await asyncio.sleep(CLIENT_SECONDS / 4)
            if self.sending_since is not None and time.monotonic() - self.sending_since > CLIENT_SECONDS:
                passing.cancel()
