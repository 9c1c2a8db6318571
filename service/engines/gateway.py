"""The one way from the gateway to an engine: requests over aiohttp, with every failure as an `ApiError`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from service.endpoints import Endpoint, Endpoints
from service.engines import protocol
from service.errors import ApiError

T = TypeVar("T")
# Compressed answers would have to be unpacked and counted for nothing: engines are near.
HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}


def encode(body: Mapping[str, Any]) -> bytes:
    """A body as JSON, some ten times faster than `json.dumps`: megabytes of ids must not hold up other streams."""
    return msgspec.json.encode(body)


async def send(
    http: aiohttp.ClientSession,
    endpoint: Endpoint,
    path: str,
    body: Mapping[str, Any],
    timeout: aiohttp.ClientTimeout | None = None,
) -> bytes:
    """POST a body to one engine and return the answer's bytes.

    Raises:
        ApiError: it refuses (see `protocol.refusal`), is down (503) or silent for too long (504).
    """
    async with _posted(http, endpoint, path, encode(body), timeout) as reply:
        return await read(reply, endpoint.checkpoint)


async def responds(http: aiohttp.ClientSession, endpoint: Endpoint, timeout: aiohttp.ClientTimeout) -> bool:
    """Whether an engine's server answers at all, as it does while requests queue behind others."""
    try:
        async with http.get(endpoint.url + protocol.HEALTH, timeout=timeout) as reply:
            return reply.status < 500
    except (aiohttp.ClientError, TimeoutError):
        return False


async def exchange(
    http: aiohttp.ClientSession, endpoint: Endpoint, path: str, body: Mapping[str, Any]
) -> tuple[int, bytes]:
    """POST a body to one engine and return status and bytes of its answer, for a route that it may not have.

    Raises:
        ApiError: it is down (503) or silent for too long (504).
    """
    async with _replied(http, endpoint, path, encode(body)) as reply:
        return reply.status, await read(reply, endpoint.checkpoint)


async def raw_scores(http: aiohttp.ClientSession, endpoint: Endpoint, rows: Sequence[Sequence[int]]) -> list[float]:
    """Raw scores of token id sequences by a reward engine, in order, in one request; nan where it gave none.

    Nothing is subtracted or cut off here: the caller subtracts the endpoint's offset, and sends the part of each
    sequence that is scored (`scores.scored_part`).

    Raises:
        ApiError: see `send`; 502 for another number of scores than of sequences.
    """
    path, body = protocol.classify(endpoint.checkpoint, rows)
    return protocol.parse_scores(await send(http, endpoint, path, body), endpoint.checkpoint, len(rows))


@asynccontextmanager
async def reply_of_any(
    http: aiohttp.ClientSession,
    endpoints: Endpoints,
    candidates: Sequence[Endpoint],
    path: str,
    data: bytes,
    limit: int,
) -> AsyncIterator[tuple[Endpoint, aiohttp.ClientResponse]]:
    """POST to the first of several replicas that takes the request: one that is down or full is passed over.

    Nothing has been answered to the client at that point. An engine that answered, or was waited for in vain, is not
    passed over: the next one would only do the same work again.

    Args:
        data: the body.
        limit: most requests running on one engine.

    Yields:
        The engine and its reply of status 200, which ends with the context: leaving early cancels the engine's work.

    Raises:
        ApiError: all are down or full, or one refuses the request.
    """
    for endpoint in candidates:
        async with AsyncExitStack() as stack:
            try:
                stack.enter_context(endpoints.busy(endpoint, limit))
                reply = await stack.enter_async_context(_posted(http, endpoint, path, data))
            except ApiError as error:
                if error.status != 503 or endpoint is candidates[-1]:
                    raise
                continue
            yield endpoint, reply
            return


async def answer_of_any(
    endpoints: Endpoints, candidates: Sequence[Endpoint], limit: int, work: Callable[[Endpoint], Awaitable[T]]
) -> T:
    """What the first of several replicas makes of some work: one that is down or full is passed over.

    Args:
        limit: most requests running on one engine.
        work: does no harm when it is done again by another replica.

    Raises:
        ApiError: all are down or full; and whatever else the work raises.
    """
    for endpoint in candidates:
        try:
            with endpoints.busy(endpoint, limit):
                return await work(endpoint)
        except ApiError as error:
            if error.status != 503 or endpoint is candidates[-1]:
                raise
    raise ValueError("no candidates")


async def read(reply: aiohttp.ClientResponse, model: str) -> bytes:
    """The whole of a reply. Raises `ApiError` when the engine stops before its end."""
    try:
        return await reply.read()
    except TimeoutError:
        raise protocol.timed_out(model) from None
    except aiohttp.ClientError:
        raise protocol.down(model) from None


@asynccontextmanager
async def _posted(
    http: aiohttp.ClientSession,
    endpoint: Endpoint,
    path: str,
    data: bytes,
    timeout: aiohttp.ClientTimeout | None = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A reply of status 200. Raises `ApiError` for any other."""
    async with _replied(http, endpoint, path, data, timeout) as reply:
        if reply.status != 200:
            raise protocol.refusal(reply.status, await read(reply, endpoint.checkpoint), endpoint.checkpoint)
        yield reply


@asynccontextmanager
async def _replied(
    http: aiohttp.ClientSession,
    endpoint: Endpoint,
    path: str,
    data: bytes,
    timeout: aiohttp.ClientTimeout | None = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A reply of any status. Its connection closes where it was not read to its end, which cancels the work."""
    model = endpoint.checkpoint
    try:
        reply = await http.post(
            endpoint.url + path,
            data=data,
            headers=HEADERS,
            timeout=timeout or http.timeout,
            # What people wrote goes to the address in the table, and nowhere else.
            allow_redirects=False,
        )
    except aiohttp.ConnectionTimeoutError:
        raise protocol.down(model) from None
    except TimeoutError:
        raise protocol.timed_out(model) from None
    except aiohttp.ClientError:
        raise protocol.down(model) from None
    try:
        yield reply
    finally:
        # A reply that was read whole gave its connection back already, and this does nothing.
        reply.close()
