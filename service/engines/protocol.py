"""What is said to a vLLM server and what it answers. Pure: nothing here opens a connection.

Answers are not trusted: a server elsewhere may be a proxy that answers 200 with a page of HTML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from service.endpoints import Endpoint
from service.errors import ApiError

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
CLASSIFY = "/classify"
HEALTH = "/health"

# Other refusals are about the gateway's own request (its key, the served name, the route), not about the caller's.
ABOUT_THE_REQUEST = frozenset({400, 413, 422})
TOO_LONG = re.compile(r"context length|maximum model length|max_model_len|maximum input length", re.I)
# pydantic's errors as vLLM prints them: {'type': 'int_parsing', 'loc': ('body', 'n'), 'msg': 'Input should ...', ...}
DUMP = re.compile(
    r"'loc': (?:\((?P<loc>[^)]*)\)|'(?P<path>[^']*)').*?'msg': (?P<quote>['\"])(?P<msg>.*?)(?P=quote)(?:,|})", re.S
)
DEAD = "EngineCore encountered an issue"  # vLLM's server says of the process that computed for it
LONGEST_MESSAGE = 500  # characters of an engine's message that reach a caller


class Usage(msgspec.Struct):
    """Counted tokens, under the names of chat and completions, or those of the Responses API."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    def counts(self) -> dict[str, object]:
        """As `metrics.count_tokens` reads it."""
        prompt = self.input_tokens if self.prompt_tokens is None else self.prompt_tokens
        completion = self.output_tokens if self.completion_tokens is None else self.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion}


class Answer(msgspec.Struct):
    """The part of an answer that the gateway reads. The rest, megabytes of log-probabilities perhaps, is skipped."""

    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None
    output: list[msgspec.Raw] | None = None


class ErrorDetail(msgspec.Struct):
    message: str
    param: str | None = None


class ErrorAnswer(msgspec.Struct):
    error: ErrorDetail


def classify(model: str, rows: Sequence[Sequence[int]]) -> tuple[str, dict[str, Any]]:
    """Path and body for raw scores of token id sequences: no activation, no offset."""
    return CLASSIFY, {"model": model, "input": [list(row) for row in rows], "use_activation": False}


def one_token(endpoint: Endpoint) -> tuple[str, dict[str, Any]]:
    """Path and body for one real token, or one score: a hung engine still answers its own /health."""
    ids = list(endpoint.stop_ids[:1]) or [0]
    if endpoint.kind == "reward":
        return classify(endpoint.checkpoint, [ids])
    return COMPLETIONS, {"model": endpoint.checkpoint, "prompt": ids, "max_tokens": 1, "temperature": 0}


def parse(content: bytes, model: str) -> dict[str, Any]:
    """An answer's JSON object. Raises `ApiError` 502."""
    try:
        answer = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise garbled(model) from None
    if not isinstance(answer, dict):
        raise garbled(model)
    return answer


def parse_usage(content: bytes, model: str) -> Usage | None:
    """The usage of a whole answer. Raises `ApiError` 502 when it holds neither choices nor output."""
    try:
        answer = msgspec.json.decode(content, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise garbled(model) from None
    if answer.choices is None and answer.output is None:
        raise garbled(model)
    return answer.usage


def parse_choices(content: bytes, model: str, n: int) -> list[dict[str, Any]]:
    """The `n` choices of a chat or completion, by index. Raises `ApiError` 502."""
    choices = parse(content, model).get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise garbled(model)
    by_index = {choice.get("index"): choice for choice in choices}
    if len(choices) != n or set(by_index) != set(range(n)):
        raise garbled(model)
    return [by_index[index] for index in range(n)]


def parse_scores(content: bytes, model: str, count: int) -> list[float]:
    """Raw scores of the `count` sequences that `classify` sent, in order; nan where the model gave none.

    Raises:
        ApiError: 502 for fewer, more, or no numbers.
    """
    data = parse(content, model).get("data")
    try:
        scores = {int(row["index"]): _number(row["probs"][0]) for row in data}  # type: ignore[union-attr]
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        raise garbled(model) from None
    if set(scores) != set(range(count)) or len(data) != count:  # type: ignore[arg-type]
        raise garbled(model)
    return [scores[index] for index in range(count)]


def _number(value: Any) -> float:
    # vLLM writes null for what JSON cannot hold.
    return math.nan if value is None else float(value)


def refusal(status: int, content: bytes, model: str) -> ApiError:
    """An engine's answer other than 200 in this service's words: its message is kept, its shape is not.

    Returns:
        503 for a full queue, 429 for a server that limits its callers, 502 for what is wrong between gateway and
        engine, 504 for an answer that came too late, 400 for what is wrong with the request.
    """
    try:
        error = msgspec.json.decode(content, type=ErrorAnswer).error
        message, param = one_sentence(error.message), error.param
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message, param = f"the engine answered {status}", None
    if DEAD in message:
        return down(model)
    if status == 503:
        return ApiError(503, f"{model} has a full queue: try again", code="overloaded", headers={"Retry-After": "1"})
    if status == 429:
        message = f"the engine of {model} takes no more requests at the moment: try again"
        return ApiError(429, message, code="rate_limited", headers={"Retry-After": "1"})
    if status in (408, 504):
        return timed_out(model)
    if 400 <= status < 500 and status not in ABOUT_THE_REQUEST:
        return ApiError(502, f"the engine of {model} refused the gateway ({status}): {message}", code="engine_error")
    if status in ABOUT_THE_REQUEST:
        too_long = TOO_LONG.search(message) is not None
        return ApiError(400, message, param=param, code="context_length_exceeded" if too_long else "invalid_value")
    return ApiError(502, f"the engine of {model} failed: {message}", code="engine_error")


def one_sentence(message: str) -> str:
    """The first fault of pydantic's list of faults as `field: what is wrong`; other messages on one line."""
    match = DUMP.search(message)
    if match is not None:
        # The body's place, and the types that pydantic tried in between, say nothing to a caller.
        parts = [part.strip().strip("'\"") for part in re.split("[,.]", match["loc"] or match["path"] or "")]
        place = next((part for part in parts if part not in ("", "body")), "")
        message = f"{place}: {match['msg']}" if place else match["msg"]
    message = " ".join(message.split())
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"


def down(model: str) -> ApiError:
    return ApiError(503, f"the engine of {model} is down", code="model_not_ready", headers={"Retry-After": "5"})


def timed_out(model: str) -> ApiError:
    return ApiError(504, f"{model} did not answer in time", code="timeout")


def garbled(model: str) -> ApiError:
    return ApiError(502, f"the engine of {model} gave an answer that cannot be read", code="engine_error")
