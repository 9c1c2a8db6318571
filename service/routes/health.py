"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

import aiohttp
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel

from service import metrics
from service.auth import open_to_all
from service.endpoints import Endpoint, Endpoints, View
from service.engines import gateway, protocol
from service.errors import ApiError
from service.state import Gateway, gateway_of

router = APIRouter(dependencies=[Depends(open_to_all)])
READINESS_SECONDS = 3.0
PROBE = aiohttp.ClientTimeout(total=4)  # with READINESS_SECONDS, a server that is silent is told within 7 s


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests are answered, problems by the name of the model, and checkpoints whose engines are not tried
    again."""

    status: Literal["ready", "not ready"]
    problems: dict[str, str]
    given_up: list[str]


# HEAD too: some load balancers ask for no more.
@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> Alive:
    """The process is alive and its event loop responds."""
    return Alive()


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", response_model=Readiness, responses={503: {"model": Readiness, "description": "not yet"}})
async def ready(request: Request) -> Response:
    """200 when every production alias answers a real token or score (without such aliases: every ready engine)."""
    state = gateway_of(request)
    problems = await problems_now(state)
    answer = Readiness(
        status="not ready" if problems else "ready", problems=problems, given_up=sorted(state.endpoints.view.given_up)
    )
    return JSONResponse(answer.model_dump(), 503 if problems else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def prometheus() -> Response:
    """Prometheus' text format."""
    return Response(metrics.text(), media_type="text/plain; version=0.0.4")


async def problems_now(state: Gateway) -> dict[str, str]:
    """Problem by model name; empty when all is well. What engines answered is of a few seconds ago at most, what their
    supervisors say of them is new.

    Engines are asked once for all who wait: anybody may call this, and a busy engine must not be asked ever more.
    """
    task = state.readiness
    if task is None or (task.done() and _stale(task)):
        task = state.readiness = asyncio.ensure_future(_timed(state))
    # One that goes away must not take the answer from the others.
    silent = (await asyncio.shield(task))[1]
    return silent | _table_problems(state.endpoints)


def _stale(task: asyncio.Task[tuple[float, dict[str, str]]]) -> bool:
    failed = task.cancelled() or task.exception() is not None
    return failed or time.monotonic() - task.result()[0] > READINESS_SECONDS


async def _timed(state: Gateway) -> tuple[float, dict[str, str]]:
    problems = await _probe_all(state.http, state.endpoints.view)
    return time.monotonic(), problems


def _table_problems(endpoints: Endpoints) -> dict[str, str]:
    """Problems that the endpoint table tells."""
    view, problems = endpoints.view, endpoints.problems()
    if not _production(view):
        problems |= {checkpoint: view.why_down(checkpoint) for checkpoint in view.given_up}
        if not view.ready and not problems:
            return {"engines": "none is ready"}
    return problems


async def _probe_all(http: aiohttp.ClientSession, view: View) -> dict[str, str]:
    """Problems that asking the engines shows."""
    names = _production(view) or {checkpoint: checkpoint for checkpoint in view.ready}
    answers = await asyncio.gather(*(_problem(http, view.ready.get(served, ())) for served in names.values()))
    return {name: problem for name, problem in zip(names, answers, strict=True) if problem is not None}


def _production(view: View) -> dict[str, str]:
    """Aliases of production, and what serves them."""
    return {name: served for name, served in view.aliases.items() if name.endswith("/production")}


async def _problem(http: aiohttp.ClientSession, replicas: Sequence[Endpoint]) -> str | None:
    if replicas and not any(await asyncio.gather(*(answers_one_token(http, endpoint) for endpoint in replicas))):
        return f"the engine of {replicas[0].checkpoint} does not answer"
    return None


async def answers_one_token(http: aiohttp.ClientSession, endpoint: Endpoint) -> bool:
    """Whether an engine gives one real token, or one score. A full queue is not a fault: it answers those before.

    One whose server answers while the token is late is busy. Whether it hangs behind its server is told by its
    supervisor, which sees it compute.
    """
    answered, up = await asyncio.gather(_token(http, endpoint), gateway.responds(http, endpoint, PROBE))
    return up if answered is None else answered


async def _token(http: aiohttp.ClientSession, endpoint: Endpoint) -> bool | None:
    """Whether it came; None where it is late."""
    path, body = protocol.one_token(endpoint)
    try:
        content = await gateway.send(http, endpoint, path, body, PROBE)
        if endpoint.kind == "reward":
            protocol.parse_scores(content, endpoint.checkpoint, 1)
        else:
            protocol.parse_choices(content, endpoint.checkpoint, 1)
    except ApiError as error:
        return None if error.code == "timeout" else error.code in ("overloaded", "rate_limited")
    return True
