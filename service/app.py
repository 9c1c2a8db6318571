"""The gateway: one FastAPI application over the store and the engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from service import errors
from service.auth import Keys
from service.endpoints import Endpoints
from service.middleware import RequestChecks
from service.routes import (
    admin,
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
)
from service.settings import Settings
from service.store.database import Store

ROUTERS = (
    health.router,
    openai.router,
    tokenize.router,
    loglikelihood.router,
    models.router,
    score.router,
    sessions.router,
    tasks.router,
    pages.router,
    results.router,
    export.router,
    prompts.router,
    admin.router,
)
STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings) -> FastAPI:
    """Build the gateway.

    `app.state` holds what routes share: `settings`, `store`, `keys`, `endpoints`, `plain_engines` (URLs of engines
    without vLLM's token route), `readiness` (the last question to all engines, see `health`), and, while it runs,
    `http` (the one aiohttp session to the engines).
    """
    app = FastAPI(title="AlignLoop", version="0.1.0", docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.state.settings = settings
    app.state.store = Store(settings.database)
    app.state.keys = Keys(app.state.store)
    app.state.endpoints = Endpoints(app.state.store)
    app.state.plain_engines = set()
    app.state.readiness = None
    errors.install(app)
    app.add_middleware(RequestChecks, settings=settings)
    for router in ROUTERS:
        app.include_router(router)
    static = StaticFiles(directory=STATIC, check_dir=False)
    app.mount("/static", static, name="static")
    for route in app.routes:
        if getattr(route, "path", "") in ("/static", "/openapi.json"):
            route.access = "open"  # type: ignore[attr-defined]  # read by `auth.access_of`
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await asyncio.to_thread(app.state.store.migrate)
    await asyncio.to_thread(app.state.endpoints.refresh)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=app.state.settings.upstream_seconds)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)  # vLLM's server closes idle ones after 5 s
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as http:
        app.state.http = http
        follower = asyncio.create_task(app.state.endpoints.follow())
        try:
            yield
        finally:
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower
            app.state.store.close()
