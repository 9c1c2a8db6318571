"""`POST /score`: rewards of responses, as PPO saw them."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import aiohttp
from fastapi import APIRouter, Depends, Request

from service import errors, metrics
from service.auth import Caller, require
from service.endpoints import Endpoint
from service.engines.protocol import refusal
from service.errors import ApiError
from service.schemas import Score, ScoreAnswer, ScoreRequest
from service.tokenizers import renderer_of
from training.artifacts.conversations import Refusal, sentence_with_place
from training.artifacts.scores import scored_part

router = APIRouter()
UNANSWERED = Refusal("malformed", "the conversation must end with the assistant's response")
BATCH = 256  # conversations in one request to the engine


@router.post("/score", response_model_exclude_none=True)
@router.post("/v1/score", response_model_exclude_none=True)
async def score(
    request: Request, body: ScoreRequest, caller: Annotated[Caller, Depends(require("score"))]
) -> ScoreAnswer:
    """Score each response as the assistant's finished turn. A response that cannot be scored has an `error` instead."""
    state = request.app.state
    endpoint: Endpoint = state.endpoints.find(body.model, "reward")
    request.state.model = endpoint.checkpoint
    conversations = _conversations(body)
    if len(conversations) > state.settings.max_responses:
        limit = state.settings.max_responses
        raise ApiError(400, f"more than {limit} responses: send fewer at a time", param="responses")
    rendered = await asyncio.to_thread(_render_all, endpoint, conversations)
    good = {index: ids for index, ids in enumerate(rendered) if isinstance(ids, list)}
    with state.endpoints.busy(endpoint, state.settings.max_concurrent):
        raws = await raw_scores(state.http, endpoint, list(good.values()))
    by_index = dict(zip(good, raws, strict=True))
    data = []
    for index, ids in enumerate(rendered):
        if isinstance(ids, dict):
            data.append(Score(index=index, error=ids))
        else:
            raw = by_index[index]
            data.append(Score(index=index, score=raw - endpoint.reward_offset, raw=raw, tokens=len(ids)))
    metrics.count_tokens(endpoint.checkpoint, {"prompt_tokens": sum(map(len, good.values()))})
    return ScoreAnswer(model=endpoint.checkpoint, reward_offset=endpoint.reward_offset, data=data)


async def raw_scores(http: aiohttp.ClientSession, endpoint: Endpoint, ids: list[list[int]]) -> list[float]:
    """Raw scores of token id sequences, in order.

    Raises:
        ApiError: the engine refused or is down.
    """
    scores: list[float] = []
    for start in range(0, len(ids), BATCH):
        rows = [scored_part(row, endpoint.pad_id) for row in ids[start : start + BATCH]]
        body = {"model": endpoint.checkpoint, "input": rows, "use_activation": False}
        try:
            async with http.post(f"{endpoint.url}/classify", json=body) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            message = f"the engine of {endpoint.checkpoint} is down"
            raise ApiError(503, message, code="model_not_ready", headers={"Retry-After": "5"}) from None
        if answer.status != 200:
            raise refusal(answer.status, content, endpoint.checkpoint)
        results = sorted(json.loads(content)["data"], key=lambda row: row["index"])
        scores += [float(row["probs"][0]) for row in results]
    return scores


def _conversations(body: ScoreRequest) -> list[list[dict[str, Any]]]:
    if body.conversations is not None:
        return [[turn.model_dump() for turn in turns] for turns in body.conversations]
    prompt = [turn.model_dump() for turn in body.messages or []]
    return [[*prompt, {"role": "assistant", "content": text}] for text in body.responses or []]


def _render_all(endpoint: Endpoint, conversations: list[list[dict[str, Any]]]) -> list[list[int] | dict[str, Any]]:
    """Token ids of each conversation, or the error object of one that cannot be scored."""
    rendered = renderer_of(endpoint).render(conversations, longest=endpoint.context)
    return [
        _error(row) if isinstance(row, Refusal) else row.ids if turns[-1]["role"] == "assistant" else _error(UNANSWERED)
        for turns, row in zip(conversations, rendered, strict=True)
    ]


def _error(refusal: Refusal) -> dict[str, Any]:
    error: dict[str, Any] = errors.body(400, sentence_with_place(refusal), code="not_scored")["error"]
    return error
