"""A stand-in for vLLM's HTTP server in this process, for what a real one does rarely: die, hang, answer garbage."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from aiohttp import web
from fastapi import FastAPI

from tests.support.live_service import free_port

Handler = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass
class StubEngine:
    """A running stub.

    Attributes:
        url: its address.
        answer: makes the reply to each POST, from the request and its JSON.
        seen: path and JSON of each request.
        cancelled: number of replies whose client went away.
        open: replies under way.
        hung: it does not even answer its /health.
    """

    url: str
    answer: Handler
    seen: list[tuple[str, Any]] = field(default_factory=list)
    cancelled: int = 0
    open: int = 0
    hung: bool = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/health":
            await asyncio.sleep(3600 * self.hung)
            return web.Response()
        body = await request.json() if request.can_read_body else None
        self.seen.append((request.path, body))
        self.open += 1
        try:
            return await self.answer(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.cancelled += 1
            raise
        finally:
            self.open -= 1


def chat_answer(body: Any, texts: list[str] | None = None) -> dict[str, Any]:
    """A whole answer to a chat, as vLLM 0.32 writes it, null fields included."""
    texts = texts or ["two words"] * (body.get("n") or 1)
    message: dict[str, Any] = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
    message |= {"role": "assistant", "tool_calls": []}
    choices = [
        {"index": i, "message": {**message, "content": text}, "logprobs": None, "finish_reason": "stop",
         "stop_reason": None, "token_ids": None}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": choices,
            "service_tier": None, "system_fingerprint": None, "usage": USAGE, "prompt_logprobs": None}  # fmt: skip


def chunk(model: str, text: str, **fields: Any) -> bytes:
    """One event of a chat's stream."""
    choices = [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}]
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, **fields}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def stream_of(body: Any, texts: list[str]) -> list[bytes]:
    """The events of a chat's stream: with the usage last where it was asked for."""
    events = [chunk(body["model"], text) for text in texts]
    options = body.get("stream_options") or {}
    if options.get("continuous_usage_stats"):
        events = [
            chunk(body["model"], text, usage={"prompt_tokens": 3, "completion_tokens": number, "total_tokens": 9})
            for number, text in enumerate(texts, start=1)
        ]
    if options.get("include_usage"):
        events.append(chunk(body["model"], "", choices=[], usage=USAGE | {"completion_tokens": len(texts)}))
    return [*events, b"data: [DONE]\n\n"]


async def answer_chat(request: web.Request, body: Any) -> web.StreamResponse:
    """What a healthy engine does."""
    if body.get("stream"):
        return await send_pieces(request, stream_of(body, ["two", " words"]))
    return web.json_response(chat_answer(body))


async def send_pieces(
    request: web.Request, pieces: list[bytes], *, die: bool = False, pause: float = 0.0
) -> web.StreamResponse:
    """Send bytes piece by piece; then end well, or cut the connection as a killed process does."""
    reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await reply.prepare(request)
    for piece in pieces:
        await reply.write(piece)
        await asyncio.sleep(pause)
    if die:
        assert request.transport is not None
        await asyncio.sleep(0.05)
        request.transport.abort()
    else:
        await reply.write_eof()
    return reply


@contextmanager
def stub_engine(answer: Handler = answer_chat) -> Iterator[StubEngine]:
    """Run a stub in a thread of its own; `answer` may be replaced while it runs."""
    engine = StubEngine(f"http://127.0.0.1:{free_port()}", answer)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", engine.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(engine.url.rpartition(":")[2])).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield engine
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """An application behind uvicorn in a thread, as the service runs it. Yields its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
