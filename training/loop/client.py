"""A client of a running service: one request, and its export of comparisons."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from training.artifacts.comparisons import Comparison, from_json
from training.artifacts.errors import UserError
from training.artifacts.files import split_lines

TIMEOUT = aiohttp.ClientTimeout(total=120)


@dataclass(frozen=True)
class Service:
    """A running service: its address, and a key with scopes `admin` and `export`."""

    url: str
    key: str

    async def call(self, session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Any:
        """One request with the key. Returns parsed JSON. Raises `UserError` with the service's own message."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return await request(session, method, self.url + path, headers=headers, **options)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """`call` for a single request from plain code."""

        async def once() -> Any:
            async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
                return await self.call(session, method, path, **options)

        return asyncio.run(once())


async def request(session: aiohttp.ClientSession, method: str, url: str, **options: Any) -> Any:
    """One request; raises `UserError` when the service cannot be reached or answers with an error."""
    try:
        async with session.request(method, url, **options) as answer:
            body = await answer.text()
            if answer.status >= 400:
                raise UserError(f"{url} answered {answer.status}: {_message(body)}")
            return body if "ndjson" in answer.content_type or "jsonl" in answer.content_type else json.loads(body)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UserError(
            f"cannot reach {url} ({error}): start it with `python -m service serve --with-engines`"
        ) from None


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200]


def export(service: Service) -> list[Comparison]:
    """Every comparison that the service holds, checked line by line."""
    text = service.ask("GET", "/api/export")
    return [from_json(line) for line in split_lines(str(text))]
