"""Which fields each route takes: forwarded, taken without an effect, or refused by name.

An unknown field is refused rather than dropped, for a dropped field changes the answer silently, and vLLM takes fields
that no stranger may set (templates, plug-in parameters, image URLs). A field that is null, or has the value that
OpenAI's protocol gives it by default, changes nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.endpoints import Endpoint
from service.engines.protocol import CHAT, COMPLETIONS, RESPONSES
from service.errors import ApiError

SAMPLING = {
    "model", "stream", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids", "ignore_eos",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "skip_special_tokens",
    "include_stop_str_in_output",
}  # fmt: skip
SEVERAL = {
    "n", "max_tokens", "stream_options", "min_tokens", "logprobs", "prompt_logprobs", "spaces_between_special_tokens",
    "return_token_ids", "return_tokens_as_token_ids",
}  # fmt: skip
FORWARDED: Mapping[str, frozenset[str]] = {
    COMPLETIONS: frozenset(SAMPLING | SEVERAL | {"prompt", "echo", "add_special_tokens", "logprob_token_ids"}),
    CHAT: frozenset(
        SAMPLING
        | SEVERAL
        | {
            "messages", "max_completion_tokens", "top_logprobs", "add_generation_prompt", "continue_final_message",
            "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "include_reasoning",
        }
    ),
    RESPONSES: frozenset(
        SAMPLING
        | {
            "input", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls",
            "reasoning", "include", "include_reasoning", "stream_options", "text", "tool_choice", "tools",
            "top_logprobs", "truncation",
        }
    ),
}  # fmt: skip
# Labels for accounts, caches and styles that a service without such things has no use for. Nothing is ever stored.
IGNORED: Mapping[str, type] = {
    "user": str, "metadata": dict, "store": bool, "service_tier": str, "safety_identifier": str,
    "prompt_cache_key": str, "prompt_cache_retention": str, "verbosity": str,
}  # fmt: skip
# Values that ask for nothing, of fields that are refused otherwise.
NEUTRAL: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    COMPLETIONS: {
        "best_of": (1,), "suffix": ("",), "logit_bias": ({},), "use_beam_search": (False,),
        "response_format": ({"type": "text"},), "tools": ([],),
    },
    CHAT: {
        "best_of": (1,), "echo": (False,), "tools": ([],), "functions": ([],), "function_call": ("none", "auto"),
        "modalities": (["text"],), "response_format": ({"type": "text"},), "logit_bias": ({},),
        "use_beam_search": (False,),
    },
    RESPONSES: {
        "n": (1,), "background": (False,), "tools": ([],), "include": ([],), "truncation": ("disabled",),
        "logit_bias": ({},), "text": ({}, {"format": {"type": "text"}}),
    },
}  # fmt: skip
REFUSED: Mapping[str, str] = {
    "previous_response_id": "no response is stored: send the earlier turns in `input` instead of an id",
    "background": "responses are made while the client waits: drop `background`, and stream if it takes long",
    "conversation": "no conversation is stored: send the earlier turns in `input`",
    "best_of": 'best_of needs `"rank_by": "reward"` in a chat, which returns the best by the reward model',
    "rank_by": 'ranking is for /v1/chat/completions, with `"rank_by": "reward"` and `best_of`',
    "suffix": "text cannot be inserted before a suffix: send a prompt alone",
    "functions": "functions are an old form: send `tools`",
    "function_call": "function_call is an old form: send `tool_choice`",
    "modalities": "answers are text only: drop `modalities`",
}
MOST_CHOICES = 128
LENGTHS = {COMPLETIONS: "max_tokens", CHAT: "max_completion_tokens", RESPONSES: "max_output_tokens"}
GENERATION = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip


def check_fields(body: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The fields that an engine is sent.

    Raises:
        ApiError: 400 for a field that is not taken, or a value of the wrong kind of one that is read here.
    """
    forwarded = {}
    for name, value in body.items():
        if value is None or any(_same(value, neutral) for neutral in NEUTRAL[path].get(name, ())):
            continue
        if name in FORWARDED[path]:
            forwarded[name] = value
        elif name in IGNORED:
            if not isinstance(value, IGNORED[name]):
                kind = {str: "text", dict: "an object", bool: "true or false"}[IGNORED[name]]
                raise ApiError(400, f"`{name}` must be {kind}", param=name, code="invalid_value")
        elif name in REFUSED:
            raise ApiError(400, REFUSED[name], param=name, code="unsupported_field")
        else:
            raise ApiError(400, f"unknown field `{name}`", param=name, code="unknown_field")
    n = forwarded.get("n")
    if n is not None and not (type(n) is int and 1 <= n <= MOST_CHOICES):
        raise ApiError(400, f"`n` must be a whole number from 1 to {MOST_CHOICES}", param="n", code="invalid_value")
    for name in ("stream", "ignore_eos"):
        if name in forwarded and not isinstance(forwarded[name], bool):
            raise ApiError(400, f"`{name}` must be true or false", param=name, code="invalid_value")
    return forwarded


def apply_defaults(body: dict[str, Any], endpoint: Endpoint, path: str, answer_tokens: int | None) -> None:
    """Fill in what the manifest says. Changes `body` in place.

    Args:
        answer_tokens: longest answer where the request names none; None leaves it the rest of the context.

    Raises:
        ApiError: 400 for `stop_token_ids` that are not a list of ids.
    """
    for name in GENERATION:
        if name not in body and endpoint.generation.get(name) is not None:
            body[name] = endpoint.generation[name]
    if path != COMPLETIONS and not body.get("ignore_eos"):
        _add_stop_ids(body, endpoint.stop_ids)
    has_length = "max_tokens" in body or LENGTHS[path] in body
    if not has_length and (path == COMPLETIONS or answer_tokens is not None):
        # Left out, vLLM would stop completions at 16 tokens; null leaves them the rest of the context.
        body[LENGTHS[path]] = answer_tokens
    body["model"] = endpoint.checkpoint


def prepare_stream(body: dict[str, Any], path: str) -> bool:
    """Have the engine tell its usage, and return whether the client asked for it too. Changes `body` in place."""
    client_options = body.pop("stream_options", None)
    if client_options is not None and not isinstance(client_options, dict):
        raise ApiError(400, "`stream_options` must be an object", param="stream_options", code="invalid_value")
    options = dict(client_options or {})
    options.pop("include_obfuscation", None)  # padding against listeners, which only OpenAI's service adds
    include = bool(options.pop("include_usage", False))
    continuous = options.pop("continuous_usage_stats", None)
    if options:
        name = f"stream_options.{next(iter(options))}"
        raise ApiError(400, f"unknown field `{name}`", param=name, code="unknown_field")
    if body.get("stream") and path != RESPONSES:
        body["stream_options"] = {"include_usage": True}
        if include and continuous:
            body["stream_options"]["continuous_usage_stats"] = True
    return include


def _add_stop_ids(body: dict[str, Any], stop_ids: tuple[int, ...]) -> None:
    """The template's ends of turn beside the client's own ids: without them an answer would run on."""
    own = body.get("stop_token_ids", [])
    if not isinstance(own, list) or not all(type(token) is int and token >= 0 for token in own):
        raise ApiError(400, "`stop_token_ids` must be a list of ids", param="stop_token_ids", code="invalid_value")
    ids = list(dict.fromkeys([*own, *stop_ids]))
    if ids:
        body["stop_token_ids"] = ids


def _same(value: Any, neutral: Any) -> bool:
    return type(value) is type(neutral) and bool(value == neutral)
