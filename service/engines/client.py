"""Questions of the supervisor to one engine: token ids, log-probabilities, raw scores."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx

from service.engines import protocol
from service.engines.failures import Transient
from training.artifacts.errors import UserError

SECONDS = 120.0
QUICK_SECONDS = 2.0  # for an engine that is only to show that it is there
BUSY = (408, 425, 429)  # try again


@cache
def tls() -> ssl.SSLContext:
    """Made once: loading the certificates costs more than a request, and engines that start are polled for long."""
    return httpx.create_ssl_context(trust_env=False)


def tokenize(
    url: str, model: str, messages: Sequence[Mapping[str, Any]], *, generation: bool = False, key: str | None = None
) -> list[int]:
    """Token ids that the engine makes of a conversation."""
    body = {"model": model, "messages": list(messages), "add_generation_prompt": generation}
    answer = ask(url, "/tokenize", body, key)
    with _readable(url, "/tokenize"):
        return [int(token) for token in answer["tokens"]]


def logprobs(url: str, model: str, ids: Sequence[int], key: str | None = None) -> list[float]:
    """Natural log-probability of ids[1:], each given those before it."""
    body = {"model": model, "prompt": list(ids), "max_tokens": 0, "echo": True, "logprobs": 1}
    answer = ask(url, protocol.COMPLETIONS, body, key)
    with _readable(url, protocol.COMPLETIONS):
        values = answer["choices"][0]["logprobs"]["token_logprobs"]
        return [float(value) for value in values[1 : len(ids)]]


def raw_scores(url: str, model: str, rows: Sequence[Sequence[int]], key: str | None = None) -> list[float]:
    """Raw score of each token id sequence, without activation and without offset."""
    answer = ask(url, *protocol.classify(model, rows), key)
    with _readable(url, protocol.CLASSIFY):
        return [float(row["probs"][0]) for row in sorted(answer["data"], key=lambda row: int(row["index"]))]


def context_of(url: str, model: str, key: str | None = None) -> int | None:
    """Greatest number of tokens that the engine takes for `model`; None where it does not say."""
    length = (_listed(url, model, key) or {}).get("max_model_len")
    return length if isinstance(length, int) and length > 0 else None


def serves(url: str, model: str, key: str | None = None) -> bool:
    """Whether the engine answers within a moment, and serves `model`."""
    try:
        return _listed(url, model, key, QUICK_SECONDS) is not None
    except UserError:
        return False


def _listed(url: str, model: str, key: str | None, seconds: float = SECONDS) -> dict[str, Any] | None:
    """The engine's own entry of `model`; None where it has none. Raises what `ask` raises."""
    answer = _send("GET", url, "/v1/models", None, key, seconds)
    rows = answer.get("data") if isinstance(answer, dict) else None
    return next(
        (row for row in (rows if isinstance(rows, list) else []) if isinstance(row, dict) and row.get("id") == model),
        None,
    )


def ask(url: str, path: str, body: Mapping[str, Any], key: str | None = None) -> Any:
    """POST a JSON body.

    Args:
        key: of an engine that wants one.

    Raises:
        Transient: the engine is down, busy, or failed.
        UserError: it refuses.
    """
    return _send("POST", url, path, body, key)


def headers(key: str | None) -> dict[str, str]:
    """What an engine that wants a key is sent."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


@contextmanager
def _readable(url: str, path: str) -> Iterator[None]:
    """Raise `Transient` where an answer has another form: a proxy may stand before the engine."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise Transient(f"the engine at {url} answered {path} with something that cannot be read") from None


def _send(
    method: str, url: str, path: str, body: Mapping[str, Any] | None, key: str | None, seconds: float = SECONDS
) -> Any:
    content = None if body is None else dict(body)
    try:
        answer = httpx.request(
            method, url + path, json=content, headers=headers(key), timeout=seconds, trust_env=False, verify=tls()
        )
    except httpx.HTTPError as error:
        raise Transient(f"the engine at {url} does not answer {path} ({type(error).__name__})") from None
    if answer.status_code != 200:
        message = f"the engine at {url} refused {path} ({answer.status_code}): {answer.text[:300]}"
        raise Transient(message) if answer.status_code in BUSY or answer.status_code >= 500 else UserError(message)
    try:
        return answer.json()
    except ValueError:
        raise Transient(f"the engine at {url} answered {path} with something that is not JSON") from None
