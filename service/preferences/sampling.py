"""Responses to be compared: which checkpoints write how many, and having the engines write them."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, TypeVar

import aiohttp

from service.endpoints import Endpoint, Endpoints
from service.engines import gateway, protocol
from service.errors import ApiError
from service.messages import for_engine
from training.artifacts.comparisons import Response
from training.artifacts.conversations import Message

T = TypeVar("T")
LONGEST_REASON = 20  # characters of a finish reason, as the table holds them


class UnusablePrompt(ApiError):
    """A policy cannot take this prompt: it is too long, holds a control token or half a character, or the engine
    refuses it, as where its chat template has no place for a system turn."""


@dataclass(frozen=True)
class Sampled:
    """What the policies answered.

    Attributes:
        responses: K of them, or none where every policy refused the prompt.
        propensity: the probability with which their checkpoints were chosen.
        refusals: checkpoint -> why it cannot take the prompt.
    """

    responses: list[Response]
    propensity: float
    refusals: Mapping[str, UnusablePrompt]


def current_policies(endpoints: Endpoints, names: Sequence[str]) -> frozenset[str]:
    """The checkpoints that people compare now, ready or not."""
    aliases = endpoints.view.aliases
    return frozenset(aliases.get(name, name) for name in names if name in aliases or "/" not in name)


def policies(endpoints: Endpoints, names: Sequence[str]) -> list[Endpoint]:
    """The ready engines of the configured checkpoints and aliases, each checkpoint once.

    An alias that was never set is left out: without a candidate, people compare samples of production.

    Raises:
        ApiError: 503 when nothing is set, or an engine is not ready; 404 for an unknown checkpoint.
    """
    view = endpoints.view
    usable = [name for name in names if name in view.aliases or "/" not in name]
    if not usable:
        message = f"no policy to compare yet: promote a checkpoint to {names[0] if names else 'policy/production'}"
        raise ApiError(503, message, code="no_policy", headers={"Retry-After": "5"})
    ready_endpoints = [endpoints.find(name, "policy") for name in usable]
    return list({endpoint.checkpoint: endpoint for endpoint in ready_endpoints}.values())


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
    policies: Sequence[Endpoint],
    messages: Sequence[Mapping[str, Any]],
    k: int,
    temperature: float,
    limit: int,
) -> Sampled:
    """K responses to a conversation. One that repeats another is sampled once more, then kept as it is.

    A policy that refuses the prompt is left out, as long as another takes it. When one request fails, or the caller
    is cancelled, the others are cancelled too.

    Raises:
        ApiError: an engine fails, is down, full or too slow (see `gateway.send`).
    """

    async def ask(endpoint: Endpoint, n: int) -> list[Response] | UnusablePrompt:
        try:
            own = _for_engine(messages, endpoint)

            def work(engine: Endpoint) -> Awaitable[list[Response]]:
                return complete(http, engine, own, n, temperature)

            return await gateway.answer_of_any(endpoints, endpoints.replicas(endpoint), limit, work)
        except UnusablePrompt as refusal:
            return refusal

    able = list(policies)
    refusals: dict[str, UnusablePrompt] = {}
    while able:
        counts, propensity = allocate(len(able), k, random.SystemRandom())
        requests = [(endpoint, n) for endpoint, n in zip(able, counts, strict=True) if n]
        groups = await _together([ask(endpoint, n) for endpoint, n in requests])
        refused = {e.checkpoint: g for (e, _), g in zip(requests, groups, strict=True) if isinstance(g, UnusablePrompt)}
        if not refused:
            break
        refusals |= refused
        able = [endpoint for endpoint in able if endpoint.checkpoint not in refused]
    else:
        return Sampled([], 0.0, refusals)
    responses = [response for group in groups if isinstance(group, list) for response in group]
    writers = [endpoint for endpoint, n in requests for _ in range(n)]
    repeated = [i for i, r in enumerate(responses) if r.text in {earlier.text for earlier in responses[:i]}]
    if repeated and temperature > 0:
        again = await _together([ask(writers[i], 1) for i in repeated])
        for index, group in zip(repeated, again, strict=True):
            if isinstance(group, list):
                responses[index] = group[0]
    return Sampled(responses, propensity, refusals)


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of coroutines that run at once; none of them outlives a failure or a cancellation."""
    running = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def distinct(responses: Sequence[Response]) -> list[Response]:
    """Responses without those that read like another, in order; chance decides which of equals stays, so that no
    policy gains from its place. Fewer than two: there is nothing to compare."""
    order = random.SystemRandom().sample(range(len(responses)), len(responses))
    first = {responses[index].text.strip(): index for index in reversed(order)}
    return [responses[index] for index in sorted(first.values())]


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
        content = await gateway.send(http, endpoint, protocol.CHAT, body)
    except ApiError as error:
        raise _refused(error, endpoint) from None
    return [
        Response(
            text=_text(choice, endpoint).replace("\0", "\N{REPLACEMENT CHARACTER}"),
            checkpoint=endpoint.checkpoint,
            sampling={**settings, "seed": seed + choice["index"]},
            finish_reason=_finish_reason(choice, endpoint),
        )
        for choice in protocol.parse_choices(content, endpoint.checkpoint, n)
    ]


def _text(choice: Mapping[str, Any], endpoint: Endpoint) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or not isinstance(text, str | None):
        raise protocol.garbled(endpoint.checkpoint)
    return text or ""


def _finish_reason(choice: Mapping[str, Any], endpoint: Endpoint) -> str | None:
    reason = choice.get("finish_reason")
    if not isinstance(reason, str | None) or len(reason or "") > LONGEST_REASON:
        raise protocol.garbled(endpoint.checkpoint)
    return reason


def _refused(error: ApiError, endpoint: Endpoint) -> ApiError:
    if error.code == "context_length_exceeded":
        return UnusablePrompt(400, "the prompt leaves no room for a response: shorten it", code=error.code)
    if error.status == 400:  # all but the messages is ours, and the same for every prompt
        return UnusablePrompt(400, f"{endpoint.checkpoint} cannot take the prompt: {error.message}", code=error.code)
    return error
