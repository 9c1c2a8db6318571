"""Checks of a running service over HTTP, through the routes that its users call."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import aiohttp

from training.artifacts.errors import UserError
from training.loop import client
from training.loop.client import TIMEOUT, Service
from training.runtime import runs

QUESTION = [{"role": "user", "content": "name three fruits ."}]


def run(service: Service, prompts: int, labelers: int) -> None:
    """Run every check and say what was seen.

    Args:
        prompts: how many prompts the export must hold rankings of.
        labelers: how many labelers must have made them.

    Raises:
        UserError: naming the checks that failed.
    """
    failed = asyncio.run(_run(service))
    comparisons = client.export(service)
    prompt_ids = {c.prompt_id for c in comparisons}
    people = {c.labeler for c in comparisons}
    sizes = Counter(len(c.responses) for c in comparisons)  # identical responses are shown once
    by_size = ", ".join(f"{count} with K = {k}" for k, count in sorted(sizes.items()))
    runs.CONSOLE.print(
        f"export: {len(comparisons)} comparisons ({by_size}) of {len(prompt_ids)} prompts by {len(people)} labelers"
    )
    if len(prompt_ids) < prompts or len(people) < labelers:
        failed.append("export")
    if failed:
        raise UserError(f"checks failed: {', '.join(failed)}: see the service's log")
    runs.CONSOLE.print("all checks passed")


async def _run(service: Service) -> list[str]:
    """Names of the checks over HTTP that failed."""
    named: dict[str, Callable[[Service, aiohttp.ClientSession], Awaitable[str]]] = {
        "health": _health,
        "chat": _chat,
        "stream": _stream,
        "score": _score,
        "pages": _pages,
        "keys": _keys,
    }
    failed = []
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        for name, check in named.items():
            try:
                runs.CONSOLE.print(f"{name}: {await check(service, session)}")
            except (AssertionError, UserError, KeyError, aiohttp.ClientError) as error:
                runs.CONSOLE.print(f"{name}: FAILED {error}")
                failed.append(name)
    return failed


async def _health(service: Service, session: aiohttp.ClientSession) -> str:
    await service.call(session, "GET", "/health/ready")
    models = await service.call(session, "GET", "/v1/models")
    names = [model["id"] for model in models["data"]]
    assert "policy/production" in names, f"policy/production is not served: {names}"
    return f"ready, {len(names)} models and aliases"


async def _chat(service: Service, session: aiohttp.ClientSession) -> str:
    body = {"model": "policy/production", "messages": QUESTION, "temperature": 0}
    answer = await service.call(session, "POST", "/v1/chat/completions", json=body)
    text = answer["choices"][0]["message"]["content"]
    assert text.strip(), "an empty answer"
    return repr(text)


async def _stream(service: Service, session: aiohttp.ClientSession) -> str:
    body = {"model": "policy/production", "messages": QUESTION, "temperature": 0, "stream": True}
    pieces = []
    async with session.post(f"{service.url}/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, f"status {answer.status}"
        async for line in answer.content:
            if line.startswith(b"data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                pieces.append(delta.get("content") or "")
    assert len([piece for piece in pieces if piece]) > 1, f"{len(pieces)} pieces"
    return f"{len(pieces)} pieces: {''.join(pieces)!r}"


async def _score(service: Service, session: aiohttp.ClientSession) -> str:
    responses = ["apple , pear , plum .", "shut up you fool ."]
    body = {"model": "reward/production", "messages": QUESTION, "responses": responses}
    answer = await service.call(session, "POST", "/score", json=body)
    good, bad = (row["score"] for row in answer["data"])
    assert good > bad, f"a rude answer scores {bad:.2f}, a good one {good:.2f}"
    return f"{good:.2f} for a good answer, {bad:.2f} for a rude one"


async def _pages(service: Service, session: aiohttp.ClientSession) -> str:
    pages = ("/", "/playground", "/compare", "/rank", "/results")
    for page in pages:
        async with session.get(service.url + page) as answer:
            text = await answer.text()
            assert answer.status == 200, f"{page} answers {answer.status}"
            assert "<main" in text, f"{page} has no content"
    return ", ".join(pages)


async def _keys(service: Service, session: aiohttp.ClientSession) -> str:
    for path in ("/api/export", "/admin/keys"):
        async with session.get(service.url + path) as answer:
            assert answer.status == 401, f"{path} without a key answers {answer.status}"
    return "export and administration need one"
