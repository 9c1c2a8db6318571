"""`best_of` with `"rank_by": "reward"`: of several answers to a chat, those that a reward model prefers return."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import aiohttp

from service import metrics
from service.endpoints import Endpoint, Endpoints
from service.engines import gateway, protocol
from service.errors import ApiError
from service.scoring import Outcome, Scored, score_all

MOST_ANSWERS = 64
REWARD_MODEL = "reward/production"


@dataclass(frozen=True)
class Ranking:
    """What a request asks for.

    Attributes:
        best_of: number of answers that are sampled.
        n: number of answers that are returned.
        reward_model: checkpoint or alias that scores them.
    """

    best_of: int
    n: int
    reward_model: str


def take_ranking(body: dict[str, Any]) -> Ranking | None:
    """The ranking that a chat's body asks for, None without one. Takes its fields out of `body`.

    Raises:
        ApiError: 400 for a wrong value, or one that has no effect.
    """
    if body.get("rank_by") is None:
        if body.get("reward_model") is not None:
            raise _bad("reward_model", '`reward_model` needs `"rank_by": "reward"`')
        return None
    if body.pop("rank_by") != "reward":
        raise _bad("rank_by", "`rank_by` must be reward")
    best_of, n = body.pop("best_of", None), body.pop("n", None) or 1
    if type(best_of) is not int or not 1 <= best_of <= MOST_ANSWERS:
        raise _bad("best_of", f"`best_of` must be a whole number from 1 to {MOST_ANSWERS}")
    if type(n) is not int or not 1 <= n <= best_of:
        raise _bad("n", "`n` must be a whole number from 1 to `best_of`")
    if body.get("stream"):
        raise _bad("stream", "a ranking is known when all answers are: drop `stream`")
    if body.get("tools"):
        raise _bad("tools", "calls of tools cannot be ranked: drop `tools` or `rank_by`")
    model = body.pop("reward_model", None) or REWARD_MODEL
    if not isinstance(model, str):
        raise _bad("reward_model", "`reward_model` must name a checkpoint or an alias")
    body["n"] = best_of
    return Ranking(best_of, n, model)


async def ranked(
    http: aiohttp.ClientSession,
    pool: ThreadPoolExecutor,
    endpoints: Endpoints,
    ranking: Ranking,
    messages: Sequence[Mapping[str, Any]],
    content: bytes,
    policy: Endpoint,
    limit: int,
) -> dict[str, Any]:
    """The engine's answer with its best choices, each with its `score`; `ranking` has all scores and their model.

    Args:
        pool: threads that render.
        messages: the conversation that the answers follow.
        content: the policy's answer with `best_of` choices.
        limit: most requests running on one engine.

    Raises:
        ApiError: the reward model's engine is down or refuses, or no answer could be scored.
    """
    judges = endpoints.candidates(ranking.reward_model, "reward")
    judge = judges[0]
    answer = protocol.parse(content, policy.checkpoint)
    choices = protocol.parse_choices(content, policy.checkpoint, ranking.best_of)
    conversations = [[*messages, {"role": "assistant", "content": _text(choice, policy)}] for choice in choices]

    def work(engine: Endpoint) -> Awaitable[list[Outcome]]:
        return score_all(http, pool, engine, conversations)

    outcomes = await gateway.answer_of_any(endpoints, judges, limit, work)
    scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
    metrics.count_tokens(judge.checkpoint, {"prompt_tokens": sum(outcome.tokens for outcome in scored)})
    scores = [outcome.raw - judge.reward_offset if isinstance(outcome, Scored) else None for outcome in outcomes]
    order = sorted((i for i, score in enumerate(scores) if score is not None), key=lambda i: -(scores[i] or 0.0))
    if len(order) < ranking.n:
        message = (
            f"{judge.checkpoint} could score {len(order)} of {len(choices)} answers: raise best_of or shorten them"
        )
        raise ApiError(400, message, param="rank_by", code="not_scored")
    best = [{**choices[i], "index": place, "score": scores[i]} for place, i in enumerate(order[: ranking.n])]
    return {**answer, "choices": best, "ranking": {"model": judge.checkpoint, "scores": scores}}


def _text(choice: Mapping[str, Any], policy: Endpoint) -> str:
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise protocol.garbled(policy.checkpoint)
    return str(message.get("content") or "")


def _bad(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
