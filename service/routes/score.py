"""`POST /score`: rewards of responses, as PPO saw them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute

from service import errors, metrics
from service.auth import Caller, require
from service.disconnects import unless_gone
from service.endpoints import Endpoint
from service.engines import gateway
from service.errors import ApiError, of_engines
from service.schemas import Score, ScoreAnswer, ScoreRequest, ScoreUsage, Turn
from service.scoring import Conversation, Outcome, Scored, score_all
from service.state import gateway_of

TURN = b'"role"'  # in a text of JSON its quotation marks are escaped
MOST_TURNS = 20_000  # of a request: taking in 100,000 held up all streams for a third of a second


class BoundedRoute(APIRoute):
    """Counts turns before they are taken in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            if (await request.body()).count(TURN) > MOST_TURNS:
                raise ApiError(400, f"more than {MOST_TURNS:,} turns in one request: send fewer at a time")
            return await handle(request)

        return bounded


router = APIRouter(route_class=BoundedRoute)


@router.post("/score", response_model_exclude_unset=True, responses=of_engines())
@router.post("/v1/score", response_model_exclude_unset=True, responses=of_engines())
async def score(
    request: Request, body: ScoreRequest, caller: Annotated[Caller, Depends(require("score"))]
) -> ScoreAnswer:
    """Score each response as the assistant's finished turn. A response that cannot be scored has an `error` instead."""
    state = gateway_of(request)
    candidates = state.endpoints.candidates(body.model, "reward")
    endpoint = candidates[0]
    request.state.model = endpoint.checkpoint
    conversations = conversations_of(body)
    if len(conversations) > state.settings.max_responses:
        limit = state.settings.max_responses
        raise ApiError(400, f"more than {limit} responses: send fewer at a time", param="responses")

    def work(engine: Endpoint) -> Awaitable[list[Outcome]]:
        return score_all(state.http, state.scoring_pool, engine, conversations)

    scoring = gateway.answer_of_any(state.endpoints, candidates, state.settings.max_concurrent, work)
    outcomes: list[Outcome] = await unless_gone(request, scoring)
    tokens = sum(outcome.tokens for outcome in outcomes if isinstance(outcome, Scored))
    metrics.count_tokens(endpoint.checkpoint, {"prompt_tokens": tokens})
    return ScoreAnswer(
        object="list",
        model=endpoint.checkpoint,
        reward_offset=endpoint.reward_offset,
        data=[_described(index, outcome, endpoint.reward_offset) for index, outcome in enumerate(outcomes)],
        usage=ScoreUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def conversations_of(body: ScoreRequest) -> list[Conversation]:
    """The conversations to be scored, prompt by prompt.

    Raises:
        ApiError: 400 for a prompt that does not end with the user.
    """
    if body.conversations is not None:
        return [_plain(turns) for turns in body.conversations]
    if body.prompts is not None:
        groups = [(f"prompts.{n}.messages", one.messages, one.responses) for n, one in enumerate(body.prompts)]
    else:
        groups = [("messages", body.messages or [], body.responses or [])]
    conversations: list[Conversation] = []
    for where, messages, responses in groups:
        prompt = _plain(messages)
        if not prompt or prompt[-1]["role"] == "assistant":
            raise ApiError(400, f"`{where}` must end with the user: responses answer it", param=where)
        conversations += [[*prompt, {"role": "assistant", "content": text}] for text in responses]
    return conversations


def _plain(turns: list[Turn]) -> list[dict[str, object]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _described(index: int, outcome: Outcome, offset: float) -> Score:
    if isinstance(outcome, Scored):
        return Score(index=index, score=outcome.raw - offset, raw=outcome.raw, tokens=outcome.tokens)
    return Score(index=index, error=errors.detail(400, outcome.message, code=outcome.code))
