"""Server-sent events on their way through the gateway: cut at their ends, usage counted, failures told once."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import msgspec

from service import errors
from service.engines import protocol
from service.engines.protocol import ErrorDetail, Usage
from service.errors import ApiError

# Inside a JSON text quotation marks and line ends are escaped, so no answer can imitate what is searched here.
USAGE = (b'"usage":{', b'"usage": {')
FAILED = re.compile(rb'^data: ?\{"error"|^event: ?error\r?$|^event: ?response\.failed\r?$', re.M)
END = re.compile(rb"^data: ?\[DONE\]\r?$|^event: ?response\.(?:completed|incomplete)\r?$", re.M)
LONGEST_EVENT = 64 * 2**20  # bytes; the log-probabilities of a long prompt come in one event


@dataclass
class Outcome:
    """How a stream ended.

    Attributes:
        usage: the last that the engine told, which holds those before.
        error: why it failed.
        complete: its last event was sent on: a client may hang up from then on, and has the whole answer.
    """

    usage: Usage | None = None
    error: ApiError | None = None
    complete: bool = False


class _Chunk(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None
    response: _Chunk | None = None


class _Failure(msgspec.Struct):
    message: str | None = None
    error: ErrorDetail | None = None
    response: _Failure | None = None


class Splitter:
    """Holds back what follows the last blank line, as an event that is cut must never be glued to another one."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The whole events so far, blank lines included."""
        if not self.rest and data.endswith(b"\n\n"):
            return data  # as nearly always: engines write one event at a time
        start = max(0, len(self.rest) - 3)
        self.rest += data
        end = self.rest.rfind(b"\n\n", start) + 2
        if b"\r" in data:
            end = max(end, self.rest.rfind(b"\r\n\r\n", start) + 4 if b"\r\n\r\n" in self.rest[start:] else 0)
        if end < 2:
            return b""
        events = bytes(self.rest[:end])
        del self.rest[:end]
        return events


async def events(
    reply: aiohttp.ClientResponse, model: str, outcome: Outcome, *, keep_usage: bool, responses: bool = False
) -> AsyncIterator[bytes]:
    """Whole events, several in a piece where they came together. What an engine leaves half-written is dropped.

    After a failure one event with this service's error comes last.

    Args:
        outcome: filled in as the stream goes.
        keep_usage: leave the event that only tells the usage; the engine is always asked for it.
        responses: a stream of the Responses API, which ends with an event of its own instead of `[DONE]`.
    """
    splitter = Splitter()
    try:
        async for data in reply.content.iter_any():
            piece = splitter.feed(data)
            if not piece:
                if len(splitter.rest) > LONGEST_EVENT:
                    raise protocol.garbled(model)
                continue
            failed = FAILED.search(piece)
            if failed is not None:
                if failed.start():
                    yield piece[: failed.start()]
                raise _failure(piece[failed.start() :], model)
            if any(mark in piece for mark in USAGE):
                piece = _without_usage(piece, outcome, keep=keep_usage or responses)
            last = END.search(piece) is not None
            if piece:
                yield piece
            outcome.complete = outcome.complete or last
        if not outcome.complete:
            raise protocol.down(model)
    except ApiError as error:
        outcome.error = error
    except TimeoutError:
        outcome.error = protocol.timed_out(model)
    except aiohttp.ClientError:
        outcome.error = protocol.down(model)
    if outcome.error is not None:
        yield error_event(outcome.error, responses=responses)


def error_event(error: ApiError, *, responses: bool = False) -> bytes:
    """The last event of a stream that failed, as the `openai` client reads it."""
    body = errors.body(error.status, error.message, error.param, error.code)
    if not responses:
        return b"data: " + json.dumps(body).encode() + b"\n\n"
    flat = {"type": "error", "code": error.code, "message": error.message, "param": error.param, **body}
    return b"event: error\ndata: " + json.dumps(flat).encode() + b"\n\n"


def _without_usage(piece: bytes, outcome: Outcome, *, keep: bool) -> bytes:
    events = []
    for event in _split(piece):
        if any(mark in event for mark in USAGE):
            chunk = _read(event)
            answer = chunk.response if chunk is not None and chunk.response is not None else chunk
            if answer is not None and answer.usage is not None:
                outcome.usage = answer.usage
                if chunk is not None and chunk.choices == [] and not keep:
                    continue
        events.append(event)
    return b"".join(events)


def _split(piece: bytes) -> list[bytes]:
    blank = b"\r\n\r\n" if b"\r\n\r\n" in piece else b"\n\n"
    return [event + blank for event in piece.split(blank) if event]


def _read(event: bytes) -> _Chunk | None:
    try:
        return msgspec.json.decode(_data(event), type=_Chunk)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _failure(event: bytes, model: str) -> ApiError:
    """What an engine's own error event says, in this service's words."""
    message = "it gave no reason"
    for one in _split(event)[:1]:
        try:
            failure = msgspec.json.decode(_data(one), type=_Failure)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        detail = failure.error or (failure.response.error if failure.response else None)
        message = detail.message if detail else failure.message or message
    if protocol.DEAD in message:
        return protocol.down(model)
    return ApiError(502, f"the engine of {model} failed: {protocol.one_sentence(message)}", code="engine_error")


def _data(event: bytes) -> bytes:
    return b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
