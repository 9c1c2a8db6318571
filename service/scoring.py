"""Scores by the engine of a reward model: conversations are rendered a batch at a time, while it works on others.

Rendering runs in threads of its own. A conversation that cannot be scored keeps none of its neighbours from it.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp

from service.endpoints import Endpoint
from service.engines import gateway
from service.errors import ApiError
from service.tokenizers import renderer_of
from training.artifacts.conversations import Refusal, sentence_with_place
from training.artifacts.rendering import Renderer
from training.artifacts.scores import scored_part

THREADS = 2  # that render
BATCH = 32  # conversations in one request to the engine
IN_FLIGHT = 4  # requests of one call at the engine
UNANSWERED = Refusal("malformed", "the conversation must end with the assistant's response")
TRUE_LENGTH = re.compile(r"(?:context length|model length)[^0-9]{0,20}(\d+)")  # in vLLM's refusal
Conversation = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Scored:
    """The raw score of a conversation and the number of tokens that it was read from."""

    raw: float
    tokens: int


@dataclass(frozen=True)
class NotScored:
    """Why a conversation has no score: a sentence, and the code of OpenAI's error object."""

    message: str
    code: str = "not_scored"


Outcome = Scored | NotScored


def new_pool() -> ThreadPoolExecutor:
    """The threads that render; whoever makes them ends them."""
    return ThreadPoolExecutor(THREADS, "score")


async def score_all(
    http: aiohttp.ClientSession, pool: ThreadPoolExecutor, endpoint: Endpoint, conversations: Sequence[Conversation]
) -> list[Outcome]:
    """The outcome of each conversation, in order. Cancelled, it stops within a batch.

    Raises:
        ApiError: the engine is down, failed, or answers something else than scores.
    """
    renderer = await _in(pool, renderer_of, endpoint)
    gate = asyncio.Semaphore(IN_FLIGHT)
    outcomes: list[Outcome | None] = [None] * len(conversations)
    tasks: list[asyncio.Task[None]] = []

    async def send(places: list[int], rows: list[list[int]]) -> None:
        try:
            for place, outcome in zip(places, await _outcomes(http, endpoint, rows), strict=True):
                outcomes[place] = outcome
        finally:
            gate.release()

    try:
        for start in range(0, len(conversations), BATCH):
            batch = conversations[start : start + BATCH]
            rendered = await _in(pool, token_rows, renderer, endpoint, batch)
            places, rows = [], []
            for place, row in enumerate(rendered, start):
                if isinstance(row, Refusal):
                    outcomes[place] = NotScored(sentence_with_place(row))
                else:
                    places.append(place)
                    rows.append(row)
            if rows:
                await gate.acquire()
                tasks.append(asyncio.create_task(send(places, rows)))
            failed = next((task for task in tasks if task.done() and task.exception()), None)
            if failed is not None:
                break
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [outcome for outcome in outcomes if outcome is not None]


async def _in(pool: ThreadPoolExecutor, function: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)


def token_rows(renderer: Renderer, endpoint: Endpoint, batch: Sequence[Conversation]) -> list[list[int] | Refusal]:
    """Token ids of each conversation, as the engine reads them."""
    most = endpoint.context * longest_token(renderer)
    refusals: list[Refusal | None] = [_refused_unseen(turns, endpoint.context, most) for turns in batch]
    usable = [turns for turns, refusal in zip(batch, refusals, strict=True) if refusal is None]
    rendered: Iterator[Any] = iter(renderer.render(usable, longest=endpoint.context))
    rows: list[list[int] | Refusal] = []
    for refusal in refusals:
        row = next(rendered) if refusal is None else refusal
        rows.append(row if isinstance(row, Refusal) else scored_part(row.ids, endpoint.pad_id))
    return rows


def _refused_unseen(turns: Conversation, context: int, most: int) -> Refusal | None:
    """The refusal of what is surely too long, before any work is done on it, or has no answer to score."""
    if len(turns) > context or sum(_characters(turn.get("content")) for turn in turns) > most:
        return Refusal("too_long", str(context))
    return UNANSWERED if turns and turns[-1].get("role") != "assistant" else None


def _characters(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list):
        return 0
    return sum(len(part["text"]) for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


@lru_cache(maxsize=32)
def longest_token(renderer: Renderer) -> int:
    """Characters of the longest token: no text of more characters than tokens times this fits."""
    return max(16, *(len(token) for token in renderer.tokenizer.get_vocab()))


async def _outcomes(http: aiohttp.ClientSession, endpoint: Endpoint, rows: list[list[int]]) -> list[Outcome]:
    """What the engine says of each row. A request that it refuses is repeated without the row at fault."""
    try:
        raws = await gateway.raw_scores(http, endpoint, rows)
    except ApiError as error:
        if error.status != 400:
            raise
        return await _apart(http, endpoint, rows, error)
    return [
        Scored(raw, len(row)) if math.isfinite(raw) else NotScored("the model gives no finite score for this text")
        for row, raw in zip(rows, raws, strict=True)
    ]


async def _apart(
    http: aiohttp.ClientSession, endpoint: Endpoint, rows: list[list[int]], error: ApiError
) -> list[Outcome]:
    """Outcomes of rows that were refused together: those over the engine's own length, else each half by itself."""
    stated = TRUE_LENGTH.search(error.message)
    if stated is not None and any(len(row) > int(stated[1]) for row in rows):
        longest = int(stated[1])
        refusal = NotScored(f"longer than the {longest} tokens that the engine takes", "context_length_exceeded")
        fitting = [row for row in rows if len(row) <= longest]
        others = iter(await _outcomes(http, endpoint, fitting) if fitting else [])
        return [next(others) if len(row) <= longest else refusal for row in rows]
    if len(rows) == 1:
        return [NotScored(error.message, error.code or "not_scored")]
    middle = len(rows) // 2
    halves = await asyncio.gather(*(_outcomes(http, endpoint, half) for half in (rows[:middle], rows[middle:])))
    return [*halves[0], *halves[1]]
