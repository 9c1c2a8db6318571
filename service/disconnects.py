"""Clients that go away while they are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from service.errors import ApiError

T = TypeVar("T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; when the client goes away first, cancel it, so that the engine stops too. Raises `ApiError` 499."""
    task = asyncio.ensure_future(work)
    if not await finished_first(task, request.receive):
        raise ApiError(499, "the client closed the connection", code="client_closed")
    return task.result()


async def finished_first(task: asyncio.Task[Any], receive: Receive) -> bool:
    """Whether a task ends before the client goes away. Afterwards it has ended in any case."""
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.done()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
