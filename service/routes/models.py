"""`GET /v1/models`: the checkpoints and aliases served now."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from service.auth import require
from service.endpoints import Endpoint, Endpoints
from service.errors import ApiError, error_answers
from service.state import gateway_of

router = APIRouter(dependencies=[Depends(require("generate"))])


class Model(BaseModel):
    """A checkpoint or an alias that is served now."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="time of publication, in seconds since 1970")
    owned_by: str = "alignloop"
    root: str = Field(description="the immutable checkpoint id")
    kind: str = Field(description="policy or reward")
    stage: str = Field(description="the training stage that made it")
    max_model_len: int = Field(description="greatest number of tokens of prompt and answer together")


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models")
async def models(request: Request) -> Models:
    """OpenAI's list; an alias names its checkpoint as `root`."""
    return Models(data=_rows(gateway_of(request).endpoints))


@router.get("/v1/models/{model:path}", responses=error_answers(404))
async def model(request: Request, model: str) -> Model:
    """One entry of the list."""
    for row in _rows(gateway_of(request).endpoints):
        if row.id == model:
            return row
    raise ApiError(404, f"the model {model!r} does not exist", param="model", code="model_not_found")


def _rows(endpoints: Endpoints) -> list[Model]:
    view = endpoints.view
    rows = [_row(name, replicas[0]) for name, replicas in sorted(view.ready.items())]
    aliases = [
        _row(alias, view.ready[target][0]) for alias, target in sorted(view.aliases.items()) if target in view.ready
    ]
    return aliases + rows


def _row(name: str, endpoint: Endpoint) -> Model:
    return Model(
        id=name,
        created=int(datetime.fromisoformat(endpoint.created).timestamp()),
        root=endpoint.checkpoint,
        kind=endpoint.kind,
        stage=endpoint.stage,
        max_model_len=endpoint.context,
    )
