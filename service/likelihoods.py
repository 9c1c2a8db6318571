"""Log-probabilities of continuations by an engine that computes what contexts share once.

vLLM computes a prompt whole when its log-probabilities are requested, unless it is told to read its prefix cache. Then
it leaves what it read from there without values: positions below the number k of cached tokens hold whatever was in
memory. The first token of a continuation is predicted at the context's last position, so its values are right where
k < tokens of the context. k is a multiple of the cache's block, and at most what the prompt has in common with another
prompt of the same salt, so that most prompts for which it would be too large are known beforehand: they do not read the
cache. The engine tells k with every answer, and an answer with too large a k, or without one, is requested again. So is
one that the engine refuses: memory never written may hold what JSON cannot (1 of 190 prompts of a tiny model), and vLLM
answers 400 then, as for a mistake. Our CPU engines write ids that no token has instead (`engines/server.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from service.endpoints import Endpoint
from service.engines import gateway, protocol
from service.engines.planning import BLOCK_TOKENS
from service.errors import ApiError

SCORE_FROM = "score_from"  # our CPU engines compute values from there on (`engines/server.py`); others do not know it
TOKENS = "/inference/v1/generate"  # vLLM's route for token ids, which takes all of its sampling parameters
ABSENT = frozenset({403, 404, 405, 501})  # answers of an engine without that route; 403 by vLLM's own switch
UNWRITTEN = frozenset({400, 500})
IN_FLIGHT = 64  # prompts of one request at the engine
ONE_TOKEN = {"prompt_logprobs": 0, "max_tokens": 1, "temperature": 0.0}  # prompts' values need a token after them


@dataclass(frozen=True)
class Pair:
    """Token ids of a context and of what follows; both hold one at least."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.context + self.continuation


@dataclass(frozen=True)
class Likelihood:
    """Natural log-probabilities of a continuation's tokens, and whether each is the likeliest, shape (tokens,)."""

    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]


class NoTokenRoute(Exception):
    """The engine has completions only."""


def may_read_cache(pairs: Sequence[Pair], block: int = BLOCK_TOKENS) -> list[bool]:
    """Whether the cache can hold no position of a pair whose value is needed, by the other pairs' ids, shape (pairs,).

    Args:
        block: tokens that are cached together.
    """
    order = sorted(range(len(pairs)), key=lambda index: pairs[index].ids)
    shared = [0] * len(pairs)
    for one, other in itertools.pairwise(order):  # the longest common beginning is a neighbour's
        length = common(pairs[one].ids, pairs[other].ids)
        shared[one] = max(shared[one], length)
        shared[other] = max(shared[other], length)
    return [length // block * block < len(pair.context) for length, pair in zip(shared, pairs, strict=True)]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of ids that two prompts begin with alike."""
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)


async def likelihoods(
    http: aiohttp.ClientSession, endpoint: Endpoint, pairs: Sequence[Pair], salt: str, plain_engines: set[str]
) -> list[Likelihood | ApiError]:
    """Values of each pair, or the engine's refusal of it (a status of 400 to 499), in order.

    Args:
        salt: pairs of one salt share their contexts' computation.
        plain_engines: URLs of engines without the token route; one that turns out to be such is added.

    Raises:
        ApiError: the engine is down or failed.
    """
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(pair: Pair, reads: bool) -> Likelihood | ApiError:
        async with gate:
            try:
                if endpoint.url not in plain_engines:
                    try:
                        return await _by_tokens(http, endpoint, pair, salt, reads)
                    except NoTokenRoute:
                        plain_engines.add(endpoint.url)
                return await _by_completion(http, endpoint, pair)
            except ApiError as error:
                if error.status >= 500:
                    raise
                return error

    tasks = [asyncio.ensure_future(one(*row)) for row in zip(pairs, may_read_cache(pairs), strict=True)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _by_tokens(http: aiohttp.ClientSession, endpoint: Endpoint, pair: Pair, salt: str, reads: bool) -> Likelihood:
    sampling = {
        **ONE_TOKEN, "detokenize": False, "skip_reading_prefix_cache": not reads,
        "extra_args": {SCORE_FROM: len(pair.context)},
    }  # fmt: skip
    body = {
        "model": endpoint.checkpoint, "token_ids": pair.ids, "cache_salt": salt, "sampling_params": sampling,
    }  # fmt: skip
    status, content = await gateway.exchange(http, endpoint, TOKENS, body)
    if status in ABSENT:
        raise NoTokenRoute
    if reads and status in UNWRITTEN:
        return await _by_tokens(http, endpoint, pair, salt, False)
    if status != 200:
        raise protocol.refusal(status, content, endpoint.checkpoint)
    answer = protocol.parse(content, endpoint.checkpoint)
    values = _values(answer.get("prompt_logprobs"), pair)
    if reads and (values is None or not _cached_tokens(answer) < len(pair.context)):
        return await _by_tokens(http, endpoint, pair, salt, False)
    return _required(values, endpoint)


def _cached_tokens(answer: Mapping[str, Any]) -> float:
    """Prompt tokens that were read from the cache; infinite where the engine does not tell."""
    try:
        count = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    except (KeyError, TypeError):
        return math.inf
    return count if isinstance(count, int) else math.inf


async def _by_completion(http: aiohttp.ClientSession, endpoint: Endpoint, pair: Pair) -> Likelihood:
    """Without the cache, as vLLM computes every prompt whose log-probabilities are requested here."""
    body = {"model": endpoint.checkpoint, "prompt": pair.ids, **ONE_TOKEN}
    content = await gateway.send(http, endpoint, protocol.COMPLETIONS, body)
    (choice,) = protocol.parse_choices(content, endpoint.checkpoint, 1)
    return _required(_values(choice.get("prompt_logprobs"), pair), endpoint)


def _values(positions: Any, pair: Pair) -> Likelihood | None:
    """Values of the continuation; None where one is not that of the pair's own id, as in memory never written, or is
    not a number."""
    ids = pair.ids
    if not isinstance(positions, list) or len(positions) != len(ids):
        return None
    needed = range(len(pair.context), len(ids))
    try:
        entries = [positions[place][str(ids[place])] for place in needed]
        rows = [(float(entry["logprob"]), int(entry["rank"])) for entry in entries]
    except (KeyError, TypeError, ValueError):
        return None
    if not all(rank > 0 and math.isfinite(logprob) for logprob, rank in rows):
        return None
    return Likelihood(tuple(logprob for logprob, _ in rows), tuple(rank == 1 for _, rank in rows))


def _required(values: Likelihood | None, endpoint: Endpoint) -> Likelihood:
    if values is None:
        raise ApiError(502, f"the engine of {endpoint.checkpoint} gives no log-probabilities", code="engine_error")
    return values
