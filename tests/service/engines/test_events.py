"""Server-sent events: cut anywhere by the network, they come out whole, with the usage counted once."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engines.events import Outcome, Splitter, events
from tests.support.stub_engine import chunk, stream_of

pytestmark = pytest.mark.unit
TEXTS = ["", "a", 'x"usage":{"prompt_tokens":99}', "\n\ndata: [DONE]\n\n", 'data: {"error": 1}', "é猫🐈", "y" * 3000]
ASK = {"model": "m", "stream_options": {"include_usage": True}}


def passed(pieces: list[bytes], fault: Exception | None = None, **options: Any) -> tuple[bytes, Outcome]:
    """What `events` makes of the bytes of an engine."""

    async def iter_any() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if fault is not None:
            raise fault

    async def run() -> tuple[bytes, Outcome]:
        outcome = Outcome()
        reply: Any = SimpleNamespace(content=SimpleNamespace(iter_any=iter_any))
        collected = [piece async for piece in events(reply, "m", outcome, **{"keep_usage": False, **options})]
        assert all(piece.endswith((b"\n\n", b"\r\n\r\n")) for piece in collected)
        return b"".join(collected), outcome

    return asyncio.run(run())


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


@given(st.lists(st.integers(0, 10**6), max_size=12), st.booleans(), st.booleans())
def test_events_are_the_same_wherever_the_network_cuts_them(places: list[int], keep: bool, continuous: bool) -> None:
    options = {"include_usage": True, "continuous_usage_stats": continuous}
    sent = stream_of({"model": "m", "stream_options": options}, TEXTS)
    out, outcome = passed(cut(b"".join(sent), places), keep_usage=keep)
    assert out == b"".join(sent if keep else [*sent[:-2], sent[-1]])
    assert outcome.usage is not None
    assert outcome.usage.counts() == {"prompt_tokens": 3, "completion_tokens": len(TEXTS)}
    assert outcome.error is None


@given(st.integers(0, 10**6), st.booleans())
def test_an_engine_that_dies_leaves_whole_events_and_one_error(place: int, clean: bool) -> None:
    """Cut off at any byte, with or without a sign that there was more."""
    sent = stream_of(ASK, TEXTS)
    data = b"".join(sent)[: -len(sent[-1])]
    place %= len(data)
    out, outcome = passed([data[:place]] if place else [], None if clean else aiohttp.ClientPayloadError("cut"))
    *whole, last = [json.loads(event.removeprefix(b"data: ")) for event in out.split(b"\n\n") if event]
    assert last["error"]["code"] == "model_not_ready"
    assert outcome.error is not None
    ends = [len(b"".join(sent[:number])) for number in range(1, len(sent))]
    assert len(whole) == sum(end <= place for end in ends[: len(TEXTS)])


def test_an_engines_own_error_comes_in_our_shape() -> None:
    told = b'data: {"error": {"message": "boom", "type": "x", "param": null, "code": 500}}\n\ndata: [DONE]\n\n'
    out, outcome = passed([chunk("m", "a") + told])
    first, last = [json.loads(event.removeprefix(b"data: ")) for event in out.split(b"\n\n") if event]
    assert first["choices"][0]["delta"]["content"] == "a"
    assert last["error"] == {
        "message": "the engine of m failed: boom", "type": "server_error", "param": None, "code": "engine_error",
    }  # fmt: skip
    assert outcome.error is not None


def test_a_silent_engine_is_a_timeout() -> None:
    out, outcome = passed([chunk("m", "a")], TimeoutError())
    assert b'"code": "timeout"' in out
    assert outcome.error is not None
    assert outcome.error.status == 504


def response_event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def test_responses_end_with_an_event_of_their_own() -> None:
    usage = {"input_tokens": 4, "output_tokens": 2, "total_tokens": 6}
    # A schema that the answer repeats may have fields with any name.
    tools = [{"parameters": {"properties": {"usage": {"type": "object"}, "error": {"type": "error"}}}}]
    sent = [
        response_event("response.created", response={"tools": tools, "usage": None}),
        response_event("response.output_text.delta", delta="event: error\n"),
        response_event("response.completed", response={"tools": tools, "usage": usage}),
    ]
    out, outcome = passed(sent, responses=True)
    assert out == b"".join(sent)
    assert outcome.usage is not None
    assert outcome.usage.counts() == {"prompt_tokens": 4, "completion_tokens": 2}
    out, outcome = passed(sent[:2], responses=True)
    assert out.startswith(b"".join(sent[:2]) + b"event: error\n")
    assert outcome.error is not None


def test_lines_may_end_as_in_http() -> None:
    sent = b"".join(stream_of(ASK, ["a", "b"])).replace(b"\n", b"\r\n")
    out, outcome = passed(cut(sent, [30, 201, 202, 203]))
    assert out.count(b"\r\n\r\n") == 3
    assert outcome.usage is not None
    assert outcome.error is None


def test_a_long_event_in_many_pieces_is_no_quadratic_work() -> None:
    splitter = Splitter()
    piece = b"x" * 65536
    assert not any(splitter.feed(piece) for _ in range(256))
    assert len(splitter.feed(b"\n\n")) == 256 * 65536 + 2
