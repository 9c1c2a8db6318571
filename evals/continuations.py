"""Log-probabilities of continuations over HTTP: by the service's own route, or by any vLLM server's completions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from evals.answer_forms import NO_LOGPROBS, choices_of, expected_form, finite, places_of
from evals.transport import TOO_LONG, Refused

ONE_TOKEN = {"max_tokens": 1, "temperature": 0.0, "top_p": 1.0}  # log-probabilities of prompts need a token after them
# Answers of a server without the route; 200 of one that answers every route alike.
ABSENT = frozenset({200, 404, 405, 501})
Request = Callable[[str, str, Mapping[str, Any]], Awaitable[Any]]
Prompt = tuple[Sequence[int], int]  # token ids, and where the continuation begins


async def by_pairs(request: Request, model: str, prompts: Sequence[Prompt], salt: str) -> list[Any]:
    """`[values, whether each is the likeliest]` of every prompt, or `Refused` in its place, from `/v1/loglikelihood`.

    Args:
        salt: what requests of one salt have in common at their beginning is computed once.

    Raises:
        Refused: the whole request failed; with a status of `ABSENT` the server may lack the route.
    """
    pairs = [{"context": list(ids[:start]), "continuation": list(ids[start:])} for ids, start in prompts]
    answer = await request("POST", "/v1/loglikelihood", {"model": model, "pairs": pairs, "cache_salt": salt})
    with expected_form():
        data = list(answer["data"])
        rows = [row for _, row in sorted(zip(places_of(data, len(prompts)), data, strict=True), key=itemgetter(0))]
        return [
            _refusal(row["error"]) if row.get("error") else _row(row, len(ids) - start)
            for row, (ids, start) in zip(rows, prompts, strict=True)
        ]


async def by_completions(request: Request, model: str, prompts: Sequence[Prompt]) -> list[Any]:
    """The same from `/v1/completions`, which computes every prompt whole.

    Raises:
        Refused: also where the engine gives no log-probabilities (status 200).
    """
    body = {"model": model, "prompt": [list(ids) for ids, _ in prompts], "prompt_logprobs": 0}
    answer = await request("POST", "/v1/completions", body | ONE_TOKEN)
    with expected_form():
        rows = choices_of(answer)
        if len(rows) != len(prompts) or any(not row.get("prompt_logprobs") for row in rows):
            raise Refused(200, NO_LOGPROBS)
        return [_values(row["prompt_logprobs"], ids, start) for row, (ids, start) in zip(rows, prompts, strict=True)]


def _row(row: Mapping[str, Any], count: int) -> list[Any]:
    """Values and flags of one pair. Raises `ValueError` where there is not one of each per token."""
    values, greedy = [finite(value) for value in row["logprobs"]], [bool(flag) for flag in row["greedy"]]
    if not len(values) == len(greedy) == count:
        raise ValueError("not a value per token")
    return [values, greedy]


def _values(logprobs: Sequence[Mapping[str, Any] | None], ids: Sequence[int], start: int) -> list[Any]:
    """By id and rank: two tokens may look alike, and values may tie."""
    entries = [(logprobs[position] or {})[str(ids[position])] for position in range(start, len(ids))]
    return [[finite(entry["logprob"]) for entry in entries], [entry["rank"] == 1 for entry in entries]]


def _refusal(error: Mapping[str, Any]) -> Refused:
    if error.get("code") == "context_length_exceeded":
        return Refused(400, TOO_LONG)
    return Refused(400, f"status 400: {str(error.get('message', ''))[:120]}".rstrip(": "))
