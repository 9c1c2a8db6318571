"""The gateway: one FastAPI application over the store and the engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from service import errors, openapi, scoring
from service.endpoints import Endpoints
from service.engines import client
from service.engines.remote import authorization, key_of
from service.known_keys import KnownKeys
from service.middleware import RequestChecks
from service.preferences.ahead import Ahead
from service.preferences.preparation import Desk
from service.preferences.results import Results
from service.routes import (
    admin_aliases,
    admin_audit,
    admin_engines,
    admin_keys,
    admin_labelers,
    admin_pool,
    documentation,
    export,
    health,
    loglikelihood,
    models,
    openai,
    pages,
    prompts,
    results,
    score,
    sessions,
    tasks,
    tokenize,
    trace,
)
from service.settings import Settings
from service.state import Gateway
from service.store.database import Store

ROUTERS = (
    health.router,
    documentation.router,
    openai.router,
    tokenize.router,
    loglikelihood.router,
    models.router,
    score.router,
    sessions.router,
    tasks.router,
    pages.router,
    results.router,
    trace.router,
    export.router,
    prompts.router,
    admin_engines.router,
    admin_aliases.router,
    admin_audit.router,
    admin_keys.router,
    admin_labelers.router,
    admin_pool.router,
)
BULK_THREADS = 2
STATIC = Path(__file__).parent / "static"
ABOUT = (
    "Policies over OpenAI's protocol, rewards over `/score`, rankings by labelers, and administration. Errors have "
    "OpenAI's shape everywhere."
)


def create_app(settings: Settings) -> FastAPI:
    """Build the gateway.

    Its `state` is a `Gateway`: what routes share.
    """
    store = Store(settings.database)
    # No `docs_url`: FastAPI's page loads scripts from elsewhere, which the pages here never do.
    app = FastAPI(
        title="AlignLoop", version="0.1.0", description=ABOUT, docs_url=None, redoc_url=None, lifespan=_lifespan
    )
    app.state = Gateway(  # type: ignore[assignment]  # starlette's own is an object of any attributes
        settings,
        store,
        KnownKeys(store),
        Endpoints(store, lambda url, checkpoint: client.serves(url, checkpoint, key_of(settings, url))),
        scoring_pool=scoring.new_pool(),
        bulk_pool=ThreadPoolExecutor(BULK_THREADS, "bulk"),
    )
    errors.install(app)
    openapi.install(app)
    app.add_middleware(RequestChecks, settings=settings)
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", Assets(directory=STATIC, check_dir=False), name="static")
    for route in app.routes:
        if getattr(route, "path", "") in ("/static", "/openapi.json"):
            route.access = "open"  # type: ignore[attr-defined]  # read by `auth.access_of`
    return app


class Assets(StaticFiles):
    """Scripts and styles. Browsers ask each time whether they changed: old ones do not fit the pages of an upgrade."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    gateway = cast(Gateway, app.state)
    await asyncio.to_thread(gateway.store.migrate)
    await asyncio.to_thread(gateway.endpoints.refresh)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=gateway.settings.upstream_seconds)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)  # vLLM's server closes idle ones after 5 s
    send_keys = authorization(gateway.settings)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, auto_decompress=False, middlewares=(send_keys,)
    ) as http:
        gateway.http = http
        gateway.desk = Desk(gateway.store, gateway.settings, gateway.endpoints, http)
        gateway.ahead = Ahead(gateway.desk)
        gateway.results = Results(gateway.store)
        background = [asyncio.create_task(work) for work in (gateway.endpoints.follow(), gateway.ahead.run())]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            gateway.keys.close()
            for pool in (gateway.scoring_pool, gateway.bulk_pool):
                pool.shutdown(wait=False, cancel_futures=True)
            gateway.results.close()
            gateway.store.close()
