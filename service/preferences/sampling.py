"""Responses to be compared: which checkpoints write how many, and having the engines write them."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import aiohttp

from service.endpoints import Endpoint, Endpoints
from service.errors import ApiError
from service.messages import for_engine
from service.routes.openai import upstream_error
from training.artifacts.comparisons import Response
from training.artifacts.conversations import Message


class UnusablePrompt(ApiError):
    """This prompt cannot be given to a policy: it is too long, or holds a control token."""


def policies(endpoints: Endpoints, names: Sequence[str]) -> list[Endpoint]:
    """The ready engines of the configured checkpoints and aliases, each checkpoint once.

    An alias that was never set is left out: without a candidate, people compare samples of production.

    Raises:
        ApiError: 503 when nothing is set, or an engine is not ready; 404 for an unknown checkpoint.
    """
    view = endpoints.view
    wanted = [name for name in names if name in view.aliases or "/" not in name]
    if not wanted:
        message = f"no policy to compare yet: promote a checkpoint to {names[0] if names else 'policy/production'}"
        raise ApiError(503, message, code="no_policy", headers={"Retry-After": "5"})
    found = [endpoints.find(name, "policy") for name in wanted]
    return list({endpoint.checkpoint: endpoint for endpoint in found}.values())


def allocate(checkpoints: int, k: int, rng: random.Random) -> tuple[list[int], float]:
    """Share K responses evenly among checkpoints; a remainder goes to some of them at random.

    Returns:
        The number of responses of each checkpoint, and the probability of this choice.
    """
    whole, rest = divmod(k, checkpoints)
    extra = set(rng.sample(range(checkpoints), rest))
    return [whole + (index in extra) for index in range(checkpoints)], 1 / comb(checkpoints, rest)


async def sample(
    http: aiohttp.ClientSession,
    endpoints: Endpoints,
    chosen: Sequence[Endpoint],
    messages: Sequence[Mapping[str, Any]],
    k: int,
    temperature: float,
    limit: int,
) -> tuple[list[Response], float]:
    """K responses to a conversation. One that repeats another is sampled once more, then kept as it is.

    Returns:
        The responses, and the probability with which their checkpoints were chosen.

    Raises:
        UnusablePrompt: see there.
        ApiError: 502 or 503 when an engine fails, is down or full.
    """
    by_checkpoint = {endpoint.checkpoint: _for_engine(messages, endpoint) for endpoint in chosen}
    counts, propensity = allocate(len(chosen), k, random.SystemRandom())

    async def ask(endpoint: Endpoint, n: int) -> list[Response]:
        if n == 0:
            return []
        with endpoints.busy(endpoint, limit):
            return await complete(http, endpoint, by_checkpoint[endpoint.checkpoint], n, temperature)

    drawn = await asyncio.gather(*(ask(e, n) for e, n in zip(chosen, counts, strict=True)))
    responses = [response for group in drawn for response in group]
    writers = [endpoint for endpoint, n in zip(chosen, counts, strict=True) for _ in range(n)]
    repeated = [i for i, r in enumerate(responses) if r.text in {earlier.text for earlier in responses[:i]}]
    if repeated and temperature > 0:
        again = await asyncio.gather(*(ask(writers[i], 1) for i in repeated))
        for index, (response,) in zip(repeated, again, strict=True):
            responses[index] = response
    return responses, propensity


def _for_engine(messages: Sequence[Mapping[str, Any]], endpoint: Endpoint) -> list[Message]:
    """The messages as one policy is given them. Raises `UnusablePrompt`."""
    try:
        return for_engine(messages, endpoint)
    except ApiError as error:
        raise UnusablePrompt(error.status, error.message, code=error.code) from None


async def complete(
    http: aiohttp.ClientSession, endpoint: Endpoint, messages: Sequence[Message], n: int, temperature: float
) -> list[Response]:
    """`n` samples of one conversation in one request. vLLM gives sample i the seed `seed + i`, recorded with it."""
    seed = secrets.randbelow(2**31 - n)
    settings: dict[str, Any] = {"temperature": temperature, "top_p": 1.0}
    if endpoint.generation.get("max_tokens"):
        settings["max_tokens"] = int(endpoint.generation["max_tokens"])
    body = {
        "model": endpoint.checkpoint,
        "messages": list(messages),
        "n": n,
        "seed": seed,
        "stop_token_ids": list(endpoint.stop_ids),
        "top_k": 0,
        **settings,
    }
    try:
        async with http.post(f"{endpoint.url}/v1/chat/completions", json=body) as reply:
            content = await reply.read()
    except (aiohttp.ClientError, TimeoutError):
        message = f"the engine of {endpoint.checkpoint} is down"
        raise ApiError(503, message, code="model_not_ready", headers={"Retry-After": "5"}) from None
    if reply.status != 200:
        raise _refused(reply.status, content, endpoint)
    choices = json.loads(content)["choices"]
    return [
        Response(
            text=(choice["message"].get("content") or "").replace("\0", "\N{REPLACEMENT CHARACTER}"),
            checkpoint=endpoint.checkpoint,
            sampling={**settings, "seed": seed + choice["index"]},
            finish_reason=choice.get("finish_reason"),
        )
        for choice in sorted(choices, key=lambda choice: choice["index"])
    ]


def _refused(status: int, content: bytes, endpoint: Endpoint) -> ApiError:
    error = upstream_error(status, content, endpoint.checkpoint)
    if error.code == "context_length_exceeded":
        return UnusablePrompt(400, "the prompt leaves no room for a response: shorten it", code=error.code)
    return error
