"""`GET /v1/models`: the checkpoints and aliases served now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Request

from service.auth import require
from service.endpoints import Endpoint, Endpoints
from service.errors import ApiError
from service.state import gateway_of

router = APIRouter(dependencies=[Depends(require("generate"))])


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """OpenAI's list; an alias names its checkpoint as `root`."""
    return {"object": "list", "data": _rows(gateway_of(request).endpoints)}


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> dict[str, Any]:
    """One entry of the list."""
    for row in _rows(gateway_of(request).endpoints):
        if row["id"] == model:
            return row
    raise ApiError(404, f"the model {model!r} does not exist", param="model", code="model_not_found")


def _rows(endpoints: Endpoints) -> list[dict[str, Any]]:
    view = endpoints.view
    rows = [_row(name, replicas[0]) for name, replicas in sorted(view.ready.items())]
    aliases = [
        _row(alias, view.ready[target][0]) for alias, target in sorted(view.aliases.items()) if target in view.ready
    ]
    return aliases + rows


def _row(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(endpoint.created).timestamp()),
        "owned_by": "alignloop",
        "root": endpoint.checkpoint,
        "kind": endpoint.kind,
        "stage": endpoint.stage,
        "max_model_len": endpoint.context,
    }
