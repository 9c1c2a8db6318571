"""One server over HTTP: requests with retries, and a run that notices when the server is gone."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from training.artifacts.errors import UserError

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
ATTEMPTS = 6
PATIENCE_SECONDS = 120.0  # with a model that is not ready: longer than an engine takes to start again
TOO_LONG = "longer than the model's context"
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
class Server:
    """A session with one server.

    Attributes:
        url: root of the server, without `/v1`.
        key: bearer key of scope `eval`; $ALIGNLOOP_KEY when None; none is sent when neither is there.
        concurrency: requests in flight at once.
        gone: why nothing more is asked, None while the server answers.
        sent: model -> requests sent.
    """

    url: str
    key: str | None = None
    concurrency: int = 48
    gone: str | None = None
    sent: Counter[str] = field(default_factory=Counter)
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)
    _failures: int = field(default=0, repr=False)
    _answered: bool = field(default=False, repr=False)

    async def open(self) -> None:
        """Begin the session."""
        key = self.key or os.environ.get("ALIGNLOOP_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=300, sock_connect=10),
            connector=aiohttp.TCPConnector(limit=self.concurrency),
        )

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """One request with retries. Raises `Refused`, or `UserError` where every further request would fail alike."""
        assert self._session is not None, "use the client inside `async with`"
        began = time.monotonic()
        for attempt in itertools.count():
            if self.gone:
                raise Refused(0, self.gone)
            self.sent[str((body or {}).get("model", ""))] += 1
            try:
                async with self._session.request(method, self.url + path, json=body) as response:
                    if response.status == 200:
                        content = await _content(response)
                        self._failures, self._answered = 0, True
                        return content
                    status, reason, wait = await _problem(response)
            except (aiohttp.NonHttpUrlClientError, aiohttp.InvalidURL):
                raise UserError(f"{self.url!r} is not an address: give --url as http://HOST:PORT") from None
            except aiohttp.ContentTypeError:
                if not self._answered:
                    raise UserError(
                        f"{self.url} is not an OpenAI-compatible server: it answers {path} without JSON"
                    ) from None
                status, reason, wait = 0, "an answer that is not JSON", None
            except ValueError:
                status, reason, wait = 0, "an answer that is not valid JSON", None
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                status, reason, wait = 0, f"no answer ({type(error).__name__})", None
            if status in (401, 403):
                raise UserError(
                    f"{self.url} refused the key ({reason}): give one of scope eval by --key or $ALIGNLOOP_KEY"
                )
            if status == 404:  # no other request for this model will fare better
                break
            if status and status not in RETRIED:
                raise Refused(status, reason)
            starting = status == 503 and time.monotonic() - began < PATIENCE_SECONDS
            if attempt + 1 >= ATTEMPTS and not starting:
                break
            pause = wait if wait is not None else min(8.0, 0.25 * 2 ** min(attempt, 5))
            await asyncio.sleep(max(pause, 1.0) if attempt >= ATTEMPTS else pause)
        self._failures += 1
        if self._failures >= FAILURES and self.gone is None:
            self.gone = f"not asked any more after {FAILURES} failures in a row ({reason})"
        raise Refused(status, reason)


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
