"""`POST /v1/loglikelihood`: log-probabilities of continuations, for evaluation by multiple choice."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service import errors, metrics
from service.auth import Caller, require
from service.disconnects import unless_gone
from service.endpoints import Endpoint
from service.engines import gateway
from service.errors import ApiError, of_engines
from service.likelihoods import Likelihood, Pair, likelihoods
from service.routes.forwarding import cache_salt
from service.schemas import LikelihoodAnswer, LikelihoodRequest, PairLikelihood
from service.state import gateway_of

router = APIRouter()


@router.post("/v1/loglikelihood", response_model_exclude_unset=True, responses=of_engines())
async def loglikelihood(
    request: Request, body: LikelihoodRequest, caller: Annotated[Caller, Depends(require("generate"))]
) -> LikelihoodAnswer:
    """Log-probabilities of continuations of token ids; contexts that begin alike are computed once.

    A pair whose values cannot be computed has an `error` instead.
    """
    state = gateway_of(request)
    candidates = state.endpoints.candidates(body.model, "policy")
    endpoint = candidates[0]
    request.state.model = endpoint.checkpoint
    limit = state.settings.max_responses
    if len(body.pairs) > limit:
        raise ApiError(400, f"more than {limit} pairs: send fewer at a time", param="pairs")
    results: list[Likelihood | ApiError] = [_empty(row.context, row.continuation) for row in body.pairs]
    good = {
        index: Pair(tuple(row.context), tuple(row.continuation))
        for index, row in enumerate(body.pairs)
        if row.context and row.continuation
    }
    salt = cache_salt(caller, f"pairs {body.cache_salt or secrets.token_hex(16)}")

    def work(engine: Endpoint) -> Awaitable[list[Likelihood | ApiError]]:
        return likelihoods(state.http, engine, list(good.values()), salt, state.plain_engines)

    computing = gateway.answer_of_any(state.endpoints, candidates, state.settings.max_concurrent, work)
    for index, result in zip(good, await unless_gone(request, computing), strict=True):
        results[index] = result
    tokens = sum(len(good[index].ids) for index, row in enumerate(results) if isinstance(row, Likelihood))
    metrics.count_tokens(endpoint.checkpoint, {"prompt_tokens": tokens})
    data = [_row(*row) for row in enumerate(results)]
    return LikelihoodAnswer(object="list", model=endpoint.checkpoint, data=data)


def _empty(context: list[int], continuation: list[int]) -> ApiError:
    name = "continuation" if context else "context"
    return ApiError(400, f"the {name} holds no token", param="pairs", code="invalid_value")


def _row(index: int, result: Likelihood | ApiError) -> PairLikelihood:
    if isinstance(result, ApiError):
        return PairLikelihood(index=index, error=errors.detail(result.status, result.message, code=result.code))
    return PairLikelihood(index=index, logprobs=list(result.logprobs), greedy=list(result.greedy))
