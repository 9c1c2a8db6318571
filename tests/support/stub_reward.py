"""An engine of a reward model for tests: vLLM's `/classify` over HTTP, with scores that follow from the ids alone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from tests.support.in_thread import served

Ids = Sequence[int]


def score_of(ids: Ids) -> float:
    """The stub's raw score."""
    return (sum(ids) % 101) / 10 + len(ids)


class StubReward:
    """What the engine does, changed while it runs, and what it saw.

    Attributes:
        context: greatest number of tokens of a row.
        score: raw score of a row.
        answer: body and content type in place of scores, with status 200.
        seconds: time that an answer takes.
        requests: number of rows of each request.
        most_at_once: greatest number of requests that were open together.
        left: requests whose client went away.
    """

    def __init__(self) -> None:
        self.url = ""
        self.context = 64
        self.score: Callable[[Ids], float] = score_of
        self.answer: tuple[str, str] | None = None
        self.seconds = 0.0
        self.requests: list[int] = []
        self.most_at_once = 0
        self.left = 0
        self._open = 0

    async def classify(self, request: web.Request) -> web.Response:
        rows: list[list[int]] = (await request.json())["input"]
        self.requests.append(len(rows))
        self._open += 1
        self.most_at_once = max(self.most_at_once, self._open)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self._open -= 1
        longest = max(map(len, rows))
        if longest > self.context:
            message = f"This model's maximum context length is {self.context} tokens, however you requested {longest}."
            return web.json_response({"error": {"message": message, "code": 400}}, status=400)
        if self.answer is not None:
            return web.Response(text=self.answer[0], content_type=self.answer[1])
        scores = [self.score(row) for row in rows]
        # As vLLM writes what JSON cannot hold.
        probs = [None if score is None or not math.isfinite(score) else score for score in scores]
        data = [{"index": index, "probs": [value]} for index, value in enumerate(probs)]
        return web.json_response({"data": data[::-1]})


@contextmanager
def stub_reward() -> Iterator[StubReward]:
    """The engine in a thread of its own, on a free port."""
    stub = StubReward()
    with served("POST", "/classify", stub.classify, handler_cancellation=True) as stub.url:
        yield stub
