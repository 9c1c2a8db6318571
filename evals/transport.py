"""One server over HTTP: requests with retries, and a run that notices when the server is gone."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from training.artifacts.errors import UserError

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
ATTEMPTS = 6
PATIENCE_SECONDS = 120.0  # with a model that is not ready: longer than an engine takes to start again
ANSWER_SECONDS = 300.0  # for one answer: many prompts at once on a slow machine wait for each other
LIST_SECONDS = 30.0  # for what needs no computing
SILENCE_SECONDS = 600.0  # without a word from the server, all requests together, after which it is not asked any more
TOO_LONG = "longer than the model's context"
GIVEN_UP = "not asked any more"  # how the reason begins of what was missed because a model was gone
FAILURES = 20  # requests in a row without an answer, after which no more are sent


class Refused(Exception):
    """The service did not answer one request, after retries: its measurement is missing.

    Attributes:
        status: HTTP status, 0 when no answer came.
        reason: short, the same for requests that failed alike, so that reasons can be counted.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass
class Line:
    """How one model has answered so far.

    Attributes:
        failures: requests in a row without an answer.
        waiting: requests in flight.
        heard: when it last answered anything, or when the oldest request in flight was sent.
        gone: why it is not asked any more, None while it answers.
    """

    failures: int = 0
    waiting: int = 0
    heard: float = 0.0
    gone: str | None = None

    def failed(self, reason: str) -> None:
        """A request had no answer after all its attempts."""
        self.failures += 1
        if self.failures >= FAILURES and self.gone is None:
            self.gone = f"not asked any more after {FAILURES} failures in a row ({reason})"

    def timed_out(self, now: float) -> None:
        """An attempt had no answer in time; when none of the others had one either, the rest would wait for nothing."""
        if now - self.heard >= SILENCE_SECONDS and self.gone is None:
            self.gone = f"not asked any more after {SILENCE_SECONDS:.0f} s without any answer"


@dataclass
class Server:
    """A session with one server.

    Attributes:
        url: root of the server, without `/v1`.
        key: bearer key of scope `eval`; $ALIGNLOOP_KEY when None; none is sent when neither is there.
        concurrency: requests in flight at once.
        key_hint: what to do about a key that is refused.
        sent: model -> requests sent.
        lines: model -> how it has answered: one that hangs or is gone must not be asked on because others answer.
    """

    url: str
    key: str | None = None
    concurrency: int = 48
    key_hint: str = "give one of scope eval by --key or $ALIGNLOOP_KEY"
    sent: Counter[str] = field(default_factory=Counter)
    lines: dict[str, Line] = field(default_factory=lambda: defaultdict(Line), repr=False)
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)
    _answered: bool = field(default=False, repr=False)

    async def open(self) -> None:
        """Begin the session."""
        key = self.key or os.environ.get("ALIGNLOOP_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=self.concurrency))

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """One request with retries, in bounded time.

        Raises:
            Refused: no answer came, or a refusal.
            UserError: every further request would fail alike.
        """
        line = self.lines[str((body or {}).get("model", ""))]
        if line.waiting == 0:
            line.heard = time.monotonic()
        line.waiting += 1
        try:
            return await self._attempts(line, method, path, body)
        finally:
            line.waiting -= 1

    async def _attempts(self, line: Line, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        began = time.monotonic()
        for attempt in itertools.count():
            if line.gone:
                raise Refused(0, line.gone)
            self.sent[str((body or {}).get("model", ""))] += 1
            content, status, reason, wait = await self._attempt(line, method, path, body)
            if status == 200:
                return content
            if status in (401, 403):
                raise UserError(f"{self.url} refused the key ({reason}): {self.key_hint}")
            if status == 404:  # no other request for this model will fare better
                break
            if status and status not in RETRIED:
                raise Refused(status, reason)
            waited = time.monotonic() - began
            starting = status == 503 and waited < PATIENCE_SECONDS
            if waited >= SILENCE_SECONDS or (attempt + 1 >= ATTEMPTS and not starting):
                break
            pause = wait if wait is not None else min(8.0, 0.25 * 2 ** min(attempt, 5))
            await asyncio.sleep(max(pause, 1.0) if attempt >= ATTEMPTS else pause)
        line.failed(reason)
        raise Refused(status, reason)

    async def _attempt(
        self, line: Line, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[Any, int, str, float | None]:
        """Content, status (0 without an answer), reason, and the wait that the service asks for."""
        assert self._session is not None, "use the client inside `async with`"
        limit = ANSWER_SECONDS if method == "POST" else LIST_SECONDS
        timeout = aiohttp.ClientTimeout(total=limit, sock_connect=10)
        try:
            async with self._session.request(method, self.url + path, json=body, timeout=timeout) as response:
                if response.status == 200:
                    content = await _content(response)
                    line.failures, self._answered = 0, True
                    line.heard = time.monotonic()
                    return content, 200, "", None
                status, reason, wait = await _problem(response)
                line.heard = time.monotonic()
                return None, status, reason, wait
        except (aiohttp.NonHttpUrlClientError, aiohttp.InvalidURL):
            raise UserError(f"{self.url!r} is not an address: give --url as http://HOST:PORT") from None
        except aiohttp.ContentTypeError:
            if not self._answered:
                raise UserError(
                    f"{self.url} is not an OpenAI-compatible server: it answers {path} without JSON"
                ) from None
            return None, 0, "an answer that is not JSON", None
        except ValueError:
            return None, 0, "an answer that is not valid JSON", None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                line.timed_out(time.monotonic())
            return None, 0, f"no answer ({type(error).__name__})", None


async def _content(response: aiohttp.ClientResponse, content_type: str | None = "application/json") -> Any:
    """JSON of a response; half of a surrogate pair in it, which no file can hold, becomes U+FFFD."""
    content = await response.json(content_type=content_type)
    if b"\\ud" not in (await response.read()).lower():
        return content
    text = json.dumps(content, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


async def _problem(response: aiohttp.ClientResponse) -> tuple[int, str, float | None]:
    """Status, a short reason without request-specific numbers, and the wait that the service asks for."""
    try:
        payload = await _content(response, content_type=None)
        message = str(payload.get("error", payload).get("message", payload)) if isinstance(payload, dict) else ""
    except (ValueError, AttributeError):
        message = ""
    if response.status == 400 and (
        "context length" in message or "max_model_len" in message or "longer than" in message
    ):
        reason = TOO_LONG
    else:
        reason = f"status {response.status}: {message[:120]}".rstrip(": ")
    try:
        wait = min(30.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        wait = None
    return response.status, reason, wait
