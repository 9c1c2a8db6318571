"""A client of a running service: one request, its export of comparisons, and waiting until it serves models."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from training.artifacts import progress
from training.artifacts.comparisons import Comparison, from_json
from training.artifacts.errors import UserError
from training.artifacts.files import split_lines

TIMEOUT = aiohttp.ClientTimeout(total=120)
PATIENCE_SECONDS = 120.0  # for a service that says when to come back: its database is busy, an engine starts again
READY_SECONDS = 600.0  # five engines that share two cores take a minute and a half
SETTLE_SECONDS = 20.0  # what was given up earlier is tried anew, and rows of supervisors that ended are forgotten
POLL_SECONDS = 1.0
UNREADABLE_SECONDS = 5.0  # waited where Retry-After is a date


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
    """One request. Where the service is busy for now (503 with Retry-After), it is sent again for `PATIENCE_SECONDS`.

    Raises:
        UserError: the service cannot be reached, answers with an error, or stays busy.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while True:
            async with session.request(method, url, **options) as answer:
                body = await answer.text()
                wait = _seconds_to_wait(answer)
                if wait is None or time.monotonic() + wait > deadline:
                    return _content(url, answer, body)
            await asyncio.sleep(wait)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UserError(
            f"cannot reach {url} ({error}): start it with `python -m service serve --with-engines`"
        ) from None


def _seconds_to_wait(answer: aiohttp.ClientResponse) -> float | None:
    """When to send a request again that the service did not take; None where that would change nothing."""
    after = answer.headers.get("Retry-After")
    if answer.status != 503 or after is None:
        return None
    return float(after) if after.isascii() and after.isdecimal() else UNREADABLE_SECONDS


def _content(url: str, answer: aiohttp.ClientResponse, body: str) -> Any:
    if answer.status >= 400:
        raise UserError(f"{url} answered {answer.status}: {_message(body)}")
    return body if "ndjson" in answer.content_type or "jsonl" in answer.content_type else json.loads(body)


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200]


def export(service: Service) -> list[Comparison]:
    """Every comparison that the service holds, checked line by line."""
    text = service.ask("GET", "/api/export")
    return [from_json(line) for line in split_lines(str(text))]


def wait_until_served(
    service: Service, names: Mapping[str, str], check_alive: Callable[[], None] | None = None
) -> None:
    """Wait until the service answers for each name with its checkpoint.

    Args:
        names: alias, or checkpoint -> the checkpoint that must answer for it.
        check_alive: of a service that is only starting and may not answer yet; raises `UserError` when it has ended.

    Raises:
        UserError: an engine was given up, `READY_SECONDS` are over, or a service that has started does not answer.
    """
    began = time.monotonic()
    with progress.bar("engines ready", len(names)) as bar:
        while True:
            missing, failed = dict(names), {}
            try:
                missing = _missing(service, names)
                failed = _failures(service, missing)
            except UserError:
                if check_alive is None:
                    raise
            if not missing:
                return
            if check_alive is not None:
                check_alive()
            for checkpoint, (reason, final) in failed.items():
                if final and time.monotonic() - began > SETTLE_SECONDS:
                    raise UserError(f"{checkpoint} cannot be served: {reason}")
            if time.monotonic() - began > READY_SECONDS:
                reason = next((reason for reason, _ in failed.values()), "the machine is too slow")
                raise UserError(f"{', '.join(sorted(missing))} not served after {READY_SECONDS:.0f} s: {reason}")
            bar.advance(len(names) - len(missing) - bar.completed)
            time.sleep(POLL_SECONDS)


def _missing(service: Service, names: Mapping[str, str]) -> dict[str, str]:
    """The names that their checkpoint does not answer for."""
    served = {model["id"]: model["root"] for model in service.ask("GET", "/v1/models")["data"]}
    return {name: checkpoint for name, checkpoint in names.items() if served.get(name) != checkpoint}


def _failures(service: Service, missing: Mapping[str, str]) -> dict[str, tuple[str, bool]]:
    """Of the checkpoints that are missing and that no engine starts: why, and whether it is not tried again."""
    rows = service.ask("GET", "/admin/engines")["data"]
    of_missing = [row for row in rows if row["checkpoint"] in missing.values()]
    tried = {row["checkpoint"] for row in of_missing if row["state"] != "failed"}
    reasons: dict[str, tuple[str, bool]] = {}
    for row in of_missing:
        if row["checkpoint"] not in tried:
            final = row["given_up"] and reasons.get(row["checkpoint"], ("", True))[1]
            reasons[row["checkpoint"]] = (str(row["detail"]), final)
    return reasons
