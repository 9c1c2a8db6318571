"""The gateway: one FastAPI application over the store and the engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from service import errors, scoring
from service.endpoints import Endpoints
from service.engines.remote import authorization
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
    admin_engines.router,
    admin_aliases.router,
    admin_audit.router,
    admin_keys.router,
    admin_labelers.router,
    admin_pool.router,
)
STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings) -> FastAPI:
    """Build the gateway.

    `app.state` holds what routes share: `settings`, `store`, `keys`, `endpoints`, `scoring_pool` (the threads that
    render for `/score`), `plain_engines` (URLs of engines without vLLM's token route), `readiness` (the last question
    to all engines, see `health`), and, while it runs, `http` (the one aiohttp session to the engines), `desk` and
    `ahead` (tasks for labelers), `results`.
    """
    app = FastAPI(title="AlignLoop", version="0.1.0", docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.state.settings = settings
    app.state.store = Store(settings.database)
    app.state.keys = KnownKeys(app.state.store)
    app.state.endpoints = Endpoints(app.state.store)
    app.state.scoring_pool = scoring.new_pool()
    app.state.plain_engines = set()
    app.state.readiness = None
    errors.install(app)
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
    await asyncio.to_thread(app.state.store.migrate)
    await asyncio.to_thread(app.state.endpoints.refresh)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=app.state.settings.upstream_seconds)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)  # vLLM's server closes idle ones after 5 s
    send_keys = authorization(app.state.settings)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, auto_decompress=False, middlewares=(send_keys,)
    ) as http:
        app.state.http = http
        app.state.desk = Desk(app.state.store, app.state.settings, app.state.endpoints, http)
        app.state.ahead = Ahead(app.state.desk)
        app.state.results = Results(app.state.store)
        background = [asyncio.create_task(work) for work in (app.state.endpoints.follow(), app.state.ahead.run())]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            app.state.keys.close()
            app.state.scoring_pool.shutdown(wait=False, cancel_futures=True)
            app.state.results.close()
            app.state.store.close()
