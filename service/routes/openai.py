"""OpenAI's completions and chat completions: forwarded to vLLM's own routes with the body kept.

Fields go by allow-list: an unknown one is refused by name rather than dropped, for a dropped field changes the
answer silently, and vLLM takes fields that no stranger may set (templates, plug-in parameters, image URLs).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Annotated, Any

import aiohttp
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service import errors, metrics
from service.auth import Caller, require
from service.endpoints import Endpoint
from service.errors import ApiError
from service.messages import for_engine
from training.artifacts.text import is_broken

router = APIRouter()

SAMPLING = {
    "model", "stream", "stream_options", "n", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
    "stop_token_ids", "min_tokens", "ignore_eos", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "logit_bias", "logprobs", "prompt_logprobs", "skip_special_tokens", "spaces_between_special_tokens",
    "include_stop_str_in_output", "return_token_ids", "return_tokens_as_token_ids", "user",
}  # fmt: skip
FIELDS = {
    "/v1/completions": SAMPLING | {"prompt", "echo", "add_special_tokens", "logprob_token_ids"},
    "/v1/chat/completions": SAMPLING
    | {"messages", "max_completion_tokens", "top_logprobs", "add_generation_prompt", "continue_final_message"},
}
MOST_CHOICES = 128


@router.post("/v1/completions")
async def completions(request: Request, caller: Annotated[Caller, Depends(require("generate"))]) -> Response:
    """Continue raw text or token ids."""
    return await _forward(request, "/v1/completions")


@router.post("/v1/chat/completions")
async def chat(request: Request, caller: Annotated[Caller, Depends(require("generate"))]) -> Response:
    """Write the next turn of a conversation, rendered by the checkpoint's chat template."""
    return await _forward(request, "/v1/chat/completions")


async def _forward(request: Request, path: str) -> Response:
    body = parse(await request.body())
    state = request.app.state
    endpoint: Endpoint = state.endpoints.find(check_model(body), "policy")
    request.state.model = endpoint.checkpoint
    prepare(body, endpoint, path)
    stack = AsyncExitStack()
    stack.enter_context(state.endpoints.busy(endpoint, state.settings.max_concurrent))
    try:
        upstream = await unless_gone(request, _send(stack, state.http, endpoint, path, body))
        if body.get("stream") and upstream.status == 200:
            return Events(upstream, endpoint.checkpoint, stack.pop_all())
        content = await unless_gone(request, upstream.read())
        return _whole(upstream.status, content, endpoint.checkpoint)
    except TimeoutError:
        raise ApiError(504, f"{endpoint.checkpoint} did not answer in time", code="timeout") from None
    except aiohttp.ClientError:
        raise _down(endpoint.checkpoint) from None
    finally:
        await stack.aclose()


def parse(raw: bytes) -> dict[str, Any]:
    """The request's JSON object. Raises `ApiError` 400."""
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not valid JSON", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    others = {name: value for name, value in body.items() if name != "messages"}  # those are checked one by one
    if b"\\u" in raw and is_broken(json.dumps(others, ensure_ascii=False)):
        raise ApiError(400, "the body holds half a character (a lone surrogate): mend its encoding", code="broken_text")
    return body


def check_model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError(400, "`model` is missing: name a checkpoint or an alias", param="model", code="missing_field")
    return model


def prepare(body: dict[str, Any], endpoint: Endpoint, path: str) -> None:
    """Check a body and fill in what the manifest says. Changes `body` in place.

    Raises:
        ApiError: 400 for a field that is not allowed, a wrong value of one that this service reads, or a message
            that no engine may see.
    """
    unknown = sorted(set(body) - FIELDS[path])
    if unknown:
        raise ApiError(400, f"unknown field `{unknown[0]}`", param=unknown[0], code="unknown_field")
    n = body.get("n")
    if n is not None and not (isinstance(n, int) and 1 <= n <= MOST_CHOICES):
        raise ApiError(400, f"`n` must be a whole number from 1 to {MOST_CHOICES}", param="n", code="invalid_value")
    if path == "/v1/chat/completions":
        _check_messages(body, endpoint)
        if endpoint.stop_ids and body.get("stop_token_ids") is None and not body.get("ignore_eos"):
            body["stop_token_ids"] = list(endpoint.stop_ids)
    elif "prompt" not in body:
        raise ApiError(400, "`prompt` is missing", param="prompt", code="missing_field")
    if body.get("max_completion_tokens") is None and body.get("max_tokens") is None:
        # None leaves the rest of the context to the answer; left out, vLLM would stop completions at 16 tokens.
        body["max_tokens"] = endpoint.generation.get("max_tokens")
    for name in ("temperature", "top_p"):
        if body.get(name) is None and name in endpoint.generation:
            body[name] = endpoint.generation[name]
    body["model"] = endpoint.checkpoint


def _check_messages(body: dict[str, Any], endpoint: Endpoint) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise ApiError(400, "`messages` must be a list of objects", param="messages", code="invalid_value")
    for number, message in enumerate(messages, start=1):
        extra = sorted(set(message) - {"role", "content"})
        if extra:
            raise ApiError(
                400, f"message {number} has the unknown field `{extra[0]}`", param="messages", code="unknown_field"
            )
    body["messages"] = for_engine(messages, endpoint)


async def _send(
    stack: AsyncExitStack, http: aiohttp.ClientSession, endpoint: Endpoint, path: str, body: Mapping[str, Any]
) -> aiohttp.ClientResponse:
    data = json.dumps(body).encode()
    sending = http.post(endpoint.url + path, data=data, headers={"content-type": "application/json"})
    return await stack.enter_async_context(sending)


async def unless_gone(request: Request, work: Any) -> Any:
    """Await `work`; when the client goes away first, cancel it, so that the engine stops too."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client closed the connection", code="client_closed")
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Events(StreamingResponse):
    """Server-sent events, passed through untouched. However it ends, the connection closes, which aborts the engine."""

    def __init__(self, upstream: aiohttp.ClientResponse, model: str, held: AsyncExitStack) -> None:
        headers = {"cache-control": "no-cache"}
        super().__init__(_chunks(upstream, model), media_type="text/event-stream", headers=headers)
        self.upstream = upstream
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.held:
            try:
                await super().__call__(scope, receive, send)
            finally:
                self.upstream.close()


async def _chunks(upstream: aiohttp.ClientResponse, model: str) -> AsyncIterator[bytes]:
    last = b""
    try:
        async for chunk in upstream.content.iter_any():
            last = chunk
            yield chunk
    except (aiohttp.ClientError, TimeoutError):
        error = _down(model)
        broken = errors.body(error.status, error.message, code=error.code)
        yield b"data: " + json.dumps(broken).encode() + b"\n\n"
        return
    _count_stream(last, model)


def _count_stream(last: bytes, model: str) -> None:
    """Count the usage that the last chunk holds when the caller asked for it."""
    for line in last.splitlines():
        if line.startswith(b"data: {") and b'"usage"' in line:
            try:
                metrics.count_tokens(model, json.loads(line[6:]).get("usage"))
            except ValueError:
                return


def _whole(status: int, content: bytes, model: str) -> Response:
    if status == 200:
        metrics.count_tokens(model, json.loads(content).get("usage"))
        return Response(content, media_type="application/json")
    raise upstream_error(status, content, model)


def upstream_error(status: int, content: bytes, model: str) -> ApiError:
    """An engine's refusal in this service's words: its message is kept, its shape is not."""
    try:
        error = json.loads(content)["error"]
        message, param = str(error["message"]), error.get("param")
    except (ValueError, KeyError, TypeError):
        message, param = f"the engine answered {status}", None
    if status == 503:
        return ApiError(503, f"{model} has a full queue: try again", code="overloaded", headers={"Retry-After": "1"})
    if 400 <= status < 500:
        too_long = "context length" in message or "maximum model length" in message
        return ApiError(400, message, param=param, code="context_length_exceeded" if too_long else "invalid_value")
    return ApiError(502, f"the engine of {model} failed: {message[:300]}", code="engine_error")


def _down(model: str) -> ApiError:
    return ApiError(503, f"the engine of {model} is down", code="model_not_ready", headers={"Retry-After": "5"})


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
