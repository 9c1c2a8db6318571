"""What the routes of one gateway share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from fastapi import Request

if TYPE_CHECKING:
    import asyncio

    import aiohttp

    from service.endpoints import Endpoints
    from service.known_keys import KnownKeys
    from service.preferences.ahead import Ahead
    from service.preferences.preparation import Desk
    from service.preferences.results import Results
    from service.settings import Settings
    from service.store.database import Store


@dataclass
class Gateway:
    """The application's `state`. The last four are there while it runs.

    Attributes:
        scoring_pool: threads that render and tokenize: work of a request that may take seconds.
        bulk_pool: threads that import and export prompts and comparisons, which may take minutes.
        plain_engines: URLs of engines without vLLM's token route.
        readiness: the last question to all engines, see `routes.health`.
        http: the one session to the engines.
        desk: what it takes to give out tasks; `ahead` are those sampled ahead.
    """

    settings: Settings
    store: Store
    keys: KnownKeys
    endpoints: Endpoints
    scoring_pool: ThreadPoolExecutor
    bulk_pool: ThreadPoolExecutor
    plain_engines: set[str] = field(default_factory=set)
    readiness: asyncio.Task[tuple[float, dict[str, str]]] | None = None
    http: aiohttp.ClientSession = field(init=False)
    desk: Desk = field(init=False)
    ahead: Ahead = field(init=False)
    results: Results = field(init=False)


def gateway_of(request: Request) -> Gateway:
    """What the routes share, of a request's application."""
    return cast(Gateway, request.app.state)
