"""Simulated labelers that rank a running service's tasks over HTTP.

They use the routes that people's browsers use (sign in, next task, answer) and see only the texts in the order
shown.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from training.artifacts import progress
from training.artifacts.comparisons import Comparison
from training.artifacts.errors import UserError
from training.loop.client import TIMEOUT, Service, request
from training.miniature import Labeler, Prompt


class PoolPrompt(Protocol):
    """A prompt as the service takes it."""

    @property
    def id(self) -> str: ...

    @property
    def messages(self) -> Sequence[Any]: ...

    @property
    def user(self) -> str | None: ...

    @property
    def use_case(self) -> str | None: ...


class Ranker(Protocol):
    """A labeler that is not a person: one of the miniature world, or a stand-in for people on real prompts."""

    @property
    def id(self) -> str: ...

    @property
    def group(self) -> str: ...

    def rank(self, prompt: Any, texts: Sequence[str], rng: random.Random, /) -> Sequence[int]:
        """A rank of each response, 1 = best; equal ranks are ties."""


def rank_prompts(
    service: Service,
    prompts: Sequence[PoolPrompt],
    labelers: Sequence[Ranker],
    count: int,
    k: int,
    seed: int,
) -> Counter[str]:
    """Give the prompts to the service and let the labelers work side by side until `count` of them were ranked.

    Args:
        prompts: all that the labelers can judge; the service chooses among them.
        k: responses per task; the service shows fewer where some are identical.
        seed: of the labelers' noise.

    Returns:
        Number of tasks `answered` (the service gives some prompts to two labelers, to measure their agreement),
        skipped because the prompt is not in `prompts` (`foreign`), and of prompts that the service passed over because
        all responses were `identical`.
    """
    if count > len(prompts):
        raise UserError(f"there are {len(prompts)} prompts, not {count}: lower --limit")
    with progress.bar("rankings over HTTP", count) as bar:
        return asyncio.run(_rank_prompts(service, prompts, labelers, count, k, seed, bar.advance))


async def _rank_prompts(
    service: Service,
    prompts: Sequence[PoolPrompt],
    labelers: Sequence[Ranker],
    count: int,
    k: int,
    seed: int,
    advance: Callable[[], None],
) -> Counter[str]:
    rows = [{"id": p.id, "messages": list(p.messages), "user": p.user, "use_case": p.use_case} for p in prompts]
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await service.call(session, "POST", "/admin/prompts", json={"prompts": rows})
        tokens = [await _sign_up(service, session, labeler) for labeler in labelers]
    known = {prompt.id: prompt for prompt in prompts}
    ranked: set[str] = set()
    counts = await asyncio.gather(
        *(
            _labeling_session(service.url, token, labeler, known, ranked, count, k, seed, advance)
            for token, labeler in zip(tokens, labelers, strict=True)
        )
    )
    if len(ranked) < count:
        raise UserError(f"the service gave out {len(ranked)} of {count} prompts only: import more, or lower --limit")
    return sum(counts, Counter())


async def _sign_up(service: Service, session: aiohttp.ClientSession, labeler: Ranker) -> str:
    """Add a labeler to the service; returns the sign-in token."""
    body = {"name": f"simulated {labeler.id} {secrets.token_hex(4)}", "group": labeler.group}
    return str((await service.call(session, "POST", "/admin/labelers", json=body))["token"])


async def _labeling_session(
    url: str,
    token: str,
    labeler: Ranker,
    prompts: dict[str, PoolPrompt],
    ranked: set[str],
    count: int,
    k: int,
    seed: int,
    advance: Callable[[], None],
) -> Counter[str]:
    """One labeling session: sign in, then one task after the other until `ranked`, shared by all, holds `count`."""
    rng = random.Random(f"{seed}/{labeler.id}")
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of plain IP addresses, such as 127.0.0.1
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=TIMEOUT) as session:
        signed_in = await request(session, "POST", f"{url}/api/session", json={"token": token})
        headers = {"X-CSRF-Token": signed_in["csrf"]}
        counts: Counter[str] = Counter()
        while len(ranked) < count:
            body = {"kind": "rank", "k": k}
            reply = await request(session, "POST", f"{url}/api/tasks/next", json=body, headers=headers)
            task = reply["task"]
            counts["identical"] += reply["identical"]
            if task is None:
                break
            mine = f"{url}/api/tasks/{task['id']}"
            if task["prompt_id"] not in prompts:  # somebody else's prompt: these labelers cannot judge it
                await request(session, "POST", f"{mine}/skip", json={"token": task["token"]}, headers=headers)
                counts["foreign"] += 1
                continue
            texts = [r["text"] for r in sorted(task["responses"], key=lambda r: int(r["position"]))]
            ranks = labeler.rank(prompts[task["prompt_id"]], texts, rng)
            await request(
                session, "POST", f"{mine}/answer", json={"token": task["token"], "ranks": list(ranks)}, headers=headers
            )
            counts["answered"] += 1
            if task["prompt_id"] not in ranked:
                ranked.add(task["prompt_id"])
                advance()
        return counts


def shuffled(comparisons: Sequence[Comparison], seed: int) -> list[Comparison]:
    """A control: the same comparisons with each one's ranks dealt anew among its responses."""
    rng = random.Random(seed)
    return [
        replace(c, ranks=tuple(rng.sample(c.ranks, len(c.ranks)))) if c.ranks is not None else c for c in comparisons
    ]


def load_prompts(path: Path) -> list[Prompt]:
    """Prompts of the miniature world with what the simulated labelers need to judge them."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `python -m training world` first")
    return [Prompt(**(row | {"messages": tuple(row["messages"])})) for row in map(json.loads, path.open())]


def load_labelers(world: Path, group: str) -> list[Labeler]:
    """The simulated labelers of one group, from the world's folder."""
    rows = [json.loads(line) for line in (world / "labelers.jsonl").open()]
    return [Labeler(**row) for row in rows if row["group"] == group]
