"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from service import metrics
from service.auth import open_to_all
from service.endpoints import Endpoint, Endpoints

router = APIRouter(dependencies=[Depends(open_to_all)])
READINESS_SECONDS = 3.0
PROBE = aiohttp.ClientTimeout(total=10)


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process is alive and its event loop responds."""
    return {"status": "ok"}


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """200 when every production alias answers a real token or score (without such aliases: every ready engine)."""
    state = request.app.state
    readiness = getattr(state, "readiness", None)
    if readiness is None or time.monotonic() - readiness[0] > READINESS_SECONDS:
        readiness = (time.monotonic(), await _probe_all(request))
        state.readiness = readiness
    problems = readiness[1]
    status = "ready" if not problems else "not ready"
    return JSONResponse({"status": status, "problems": problems}, 503 if problems else 200)


@router.get("/metrics")
async def prometheus() -> Response:
    """Prometheus' text format."""
    return Response(metrics.text(), media_type="text/plain; version=0.0.4")


async def _probe_all(request: Request) -> dict[str, str]:
    """Problem by model name; empty when all is well."""
    endpoints: Endpoints = request.app.state.endpoints
    view, problems = endpoints.view, endpoints.problems()
    production = {name: served for name, served in view.aliases.items() if name.endswith("/production")}
    names = production or {checkpoint: checkpoint for checkpoint in view.ready}
    if not names and not problems:
        return {"engines": "none is ready"}
    for name, checkpoint in names.items():
        replicas = view.ready.get(checkpoint, ())
        answers = await asyncio.gather(*(answers_one_token(request.app.state.http, e) for e in replicas))
        if replicas and not any(answers):
            problems[name] = f"the engine of {checkpoint} does not answer"
    return problems


async def answers_one_token(http: aiohttp.ClientSession, endpoint: Endpoint) -> bool:
    """Whether an engine gives one real token, or one score: a hung engine still answers its own /health."""
    body: dict[str, Any] = {"model": endpoint.checkpoint}
    ids = list(endpoint.stop_ids[:1]) or [0]
    if endpoint.kind == "reward":
        path, body = "/classify", body | {"input": [ids]}
    else:
        path, body = "/v1/completions", body | {"prompt": ids, "max_tokens": 1, "temperature": 0}
    try:
        async with http.post(endpoint.url + path, json=body, timeout=PROBE) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
