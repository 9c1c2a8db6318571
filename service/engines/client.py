"""Questions of the supervisor to one engine: token ids, log-probabilities, raw scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from service.engines import protocol
from training.artifacts.errors import UserError

SECONDS = 120.0


def tokenize(url: str, model: str, messages: Sequence[Mapping[str, Any]], *, generation: bool = False) -> list[int]:
    """Token ids that the engine makes of a conversation."""
    body = {"model": model, "messages": list(messages), "add_generation_prompt": generation}
    tokens: list[int] = ask(url, "/tokenize", body)["tokens"]
    return tokens


def logprobs(url: str, model: str, ids: Sequence[int]) -> list[float]:
    """Natural log-probability of ids[1:], each given those before it."""
    body = {"model": model, "prompt": list(ids), "max_tokens": 0, "echo": True, "logprobs": 1}
    values = ask(url, protocol.COMPLETIONS, body)["choices"][0]["logprobs"]["token_logprobs"]
    return [float(value) for value in values[1 : len(ids)]]


def raw_scores(url: str, model: str, rows: Sequence[Sequence[int]]) -> list[float]:
    """Raw score of each token id sequence, without activation and without offset."""
    data = ask(url, *protocol.classify(model, rows))["data"]
    return [float(row["probs"][0]) for row in sorted(data, key=lambda row: int(row["index"]))]


def ask(url: str, path: str, body: Mapping[str, Any]) -> Any:
    """POST a JSON body. Raises `UserError` when the engine refuses or is down."""
    try:
        answer = httpx.post(url + path, json=dict(body), timeout=SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise UserError(f"the engine at {url} does not answer {path} ({type(error).__name__})") from None
    if answer.status_code != 200:
        raise UserError(f"the engine at {url} refused {path} ({answer.status_code}): {answer.text[:300]}")
    return answer.json()
