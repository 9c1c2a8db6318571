"""OpenAI's completions, chat completions and responses: checked by allow-list and forwarded to vLLM's own routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from service.auth import Caller, require
from service.bodies.documented import EVENT, answer_model, request_schema
from service.bodies.fields import apply_defaults, check_fields, prepare_stream
from service.bodies.parsing import check_model, parse
from service.bodies.responses import prepare_responses
from service.bodies.tools import check_response_format, check_tools, texts_in
from service.bodies.turns import read_turns
from service.disconnects import unless_gone
from service.endpoints import Endpoint
from service.engines.protocol import CHAT, COMPLETIONS, RESPONSES
from service.errors import ApiError, error_answers, of_engines
from service.messages import check_texts
from service.ranking import Ranking, ranked, take_ranking
from service.routes.forwarding import cache_salt, forward, whole
from service.state import Gateway, gateway_of

router = APIRouter(tags=["openai"])
Generates = Annotated[Caller, Depends(require("generate"))]


def documented(path: str) -> dict[str, Any]:
    """Arguments of a route that forwards: what its request and its answer look like. The engine's bytes pass as they
    are."""
    body = {"required": True, "content": {"application/json": {"schema": request_schema(path)}}}
    stream = {"text/event-stream": {"schema": EVENT}}
    answers: dict[int | str, dict[str, Any]] = {200: {"model": answer_model(path), "content": stream}, **of_engines()}
    return {"openapi_extra": {"requestBody": body}, "responses": answers}


@router.post(COMPLETIONS, **documented(COMPLETIONS))
async def completions(request: Request, caller: Generates) -> Response:
    """Continue raw text or token ids."""
    return await _answer(request, caller, COMPLETIONS)


@router.post(CHAT, **documented(CHAT))
async def chat(request: Request, caller: Generates) -> Response:
    """Write the next turn of a conversation, rendered by the checkpoint's chat template."""
    return await _answer(request, caller, CHAT)


@router.post(RESPONSES, **documented(RESPONSES))
async def responses(request: Request, caller: Generates) -> Response:
    """Write the next turn in the form of OpenAI's Responses API. Nothing is stored."""
    return await _answer(request, caller, RESPONSES)


@router.post("/v1/embeddings", status_code=400, responses=error_answers(400))
async def embeddings(request: Request, caller: Generates) -> Response:
    """Refused: no model here makes embeddings."""
    raise ApiError(400, "this service makes no embeddings: it serves policies and reward models", code="unsupported")


async def _answer(request: Request, caller: Caller, path: str) -> Response:
    body = parse(await request.body())
    state = gateway_of(request)
    ranking = take_ranking(body) if path == CHAT else None
    if ranking is not None and "score" not in caller.scopes:
        raise ApiError(403, "ranking by reward needs a key with the scope `score`", code="insufficient_scope")
    candidates = state.endpoints.candidates(check_model(body), "policy")
    request.state.model = candidates[0].checkpoint
    body, keep_usage = prepare(body, candidates[0], path, state.settings.answer_tokens)
    body["cache_salt"] = cache_salt(caller)
    if ranking is not None:
        return JSONResponse(await unless_gone(request, _best(state, ranking, candidates, body)))
    return await forward(request, candidates, path, body, keep_usage=keep_usage)


async def _best(
    state: Gateway, ranking: Ranking, candidates: Sequence[Endpoint], body: Mapping[str, Any]
) -> dict[str, Any]:
    state.endpoints.find(ranking.reward_model, "reward")  # refused before anything is sampled
    content = await whole(state, candidates, CHAT, body)
    limit = state.settings.max_concurrent
    http, pool = state.http, state.scoring_pool
    return await ranked(http, pool, state.endpoints, ranking, body["messages"], content, candidates[0], limit)


def prepare(
    body: dict[str, Any], endpoint: Endpoint, path: str, answer_tokens: int | None = None
) -> tuple[dict[str, Any], bool]:
    """What an engine is sent for a request's body, with the manifest's defaults.

    Args:
        answer_tokens: longest answer where the request names none; None leaves it the rest of the context.

    Returns:
        The body, and whether the client asked for the usage of its stream.

    Raises:
        ApiError: 400 for a field that is not taken, a wrong value of one that is read here, or a message that no
            engine may see.
    """
    body = check_fields(body, path)
    keep_usage = prepare_stream(body, path)
    if path == RESPONSES:
        prepare_responses(body, endpoint)
    elif path == CHAT:
        _prepare_chat(body, endpoint)
    elif "prompt" not in body:
        raise ApiError(400, "`prompt` is missing", param="prompt", code="missing_field")
    apply_defaults(body, endpoint, path, answer_tokens)
    return body, keep_usage


def _prepare_chat(body: dict[str, Any], endpoint: Endpoint) -> None:
    body["messages"] = read_turns(body.get("messages"), endpoint)
    if "response_format" in body:
        body["response_format"] = check_response_format(body["response_format"])
    check_tools(body, endpoint)
    check_texts(list(texts_in(body.get("tools"))), endpoint, "tools")
