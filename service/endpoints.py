"""The gateway's view of the endpoint table: which checkpoint is served where, and what the aliases mean now."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from service import metrics
from service.aliases import previous_targets
from service.errors import ApiError
from service.store.database import Store
from service.store.models import Alias, Engine, now

REFRESH_SECONDS = 0.5
STALE = timedelta(seconds=20)  # a supervisor beats every second; one that stopped took its engines along
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """One engine that is ready.

    Attributes:
        checkpoint: id of the checkpoint, also the name that the engine serves it under.
        kind: `policy` or `reward`.
        url: the engine's base URL.
        stage: the training stage that made the checkpoint.
        context: greatest number of tokens of prompt and response together.
        generation: sampling defaults of the manifest.
        reward_offset: subtracted from raw scores.
        stop_ids: ids that end an assistant turn.
        special: control strings that no message may contain.
        merge_system: whether a system turn is put before the first user turn's text.
        lost_system: which system turns are refused, as the template leaves them out: of `first` and `later`.
        created: time of publication, ISO 8601.
        folder: the checkpoint's folder on the supervisor's machine; gateways that score must see it too.
        pad_id: a reward model's padding token, see `scores.scored_part`.
        takes_tools: whether the chat template tells the model about tools; None where that is not known.
        tool_parser: what the engine reads the model's calls of tools with.
    """

    checkpoint: str
    kind: str
    url: str
    stage: str
    context: int
    generation: Mapping[str, Any]
    reward_offset: float
    stop_ids: tuple[int, ...]
    special: tuple[str, ...]
    merge_system: bool
    created: str
    folder: Path
    pad_id: int | None = None
    lost_system: tuple[str, ...] = ()
    takes_tools: bool | None = None
    tool_parser: str | None = None


@dataclass(frozen=True)
class View:
    """A snapshot: ready engines by checkpoint, aliases as served now and as promoted, and every engine's state."""

    ready: Mapping[str, tuple[Endpoint, ...]]
    aliases: Mapping[str, str]
    targets: Mapping[str, str]
    states: tuple[tuple[str, str], ...]


class Endpoints:
    """Reads the table twice a second; requests are answered from memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.view = View({}, {}, {}, ())
        self.running: Counter[str] = Counter()

    async def follow(self) -> None:
        """Refresh forever. A database that fails for a moment leaves the last view in place."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
            except SQLAlchemyError as error:
                log.warning("cannot read the endpoint table, keeping the last one: %s", error)
            await asyncio.sleep(REFRESH_SECONDS)

    def refresh(self) -> None:
        """Read the table once."""
        with self._store.session() as session:
            fresh = [row for row in session.scalars(select(Engine)) if row.heartbeat > now() - STALE]
            ready: dict[str, tuple[Endpoint, ...]] = {}
            for row in fresh:
                if row.state == "ready":
                    ready[row.checkpoint] = (*ready.get(row.checkpoint, ()), _endpoint(row))
            targets = {alias.name: alias.checkpoint for alias in session.scalars(select(Alias))}
            # Until a promoted checkpoint is served, its alias still means the one before.
            served = {
                name: next((c for c in (target, *previous_targets(session, name)) if c in ready), target)
                if target not in ready
                else target
                for name, target in targets.items()
            }
            states = tuple((row.checkpoint, row.state) for row in fresh if row.state != "wanted")
        self.view = View(ready, served, targets, states)
        metrics.show_engines(states)

    def find(self, model: str, kind: str) -> Endpoint:
        """The least busy engine of a checkpoint or alias.

        Raises:
            ApiError: 404 for an unknown name, 400 for a model of the other kind, 503 when no engine is ready.
        """
        checkpoint = self.view.aliases.get(model, model)
        replicas = self.view.ready.get(checkpoint)
        if not replicas:
            known = {c for c, _ in self.view.states} | set(self.view.aliases.values())
            if checkpoint in known:
                raise ApiError(
                    503, f"{model} is not ready: its engine is starting or down", code="model_not_ready",
                    headers={"Retry-After": "5"},
                )  # fmt: skip
            names = ", ".join(sorted([*self.view.aliases, *self.view.ready])) or "none yet"
            message = f"the model {model!r} does not exist (served: {names})"
            raise ApiError(404, message, param="model", code="model_not_found")
        endpoint = min(replicas, key=lambda e: self.running[e.url])
        if endpoint.kind != kind:
            use = "/score" if endpoint.kind == "reward" else "/v1/chat/completions"
            raise ApiError(400, f"{model} is a {endpoint.kind} model: send it to {use}", param="model")
        return endpoint

    @contextmanager
    def busy(self, endpoint: Endpoint, limit: int) -> Iterator[None]:
        """Count a request at an engine. Raises `ApiError` 503 above `limit`."""
        if self.running[endpoint.url] >= limit:
            message = f"{endpoint.checkpoint} is answering {limit} requests already: try again"
            raise ApiError(503, message, code="overloaded", headers={"Retry-After": "1"})
        self.running[endpoint.url] += 1
        metrics.running.labels(endpoint.checkpoint).inc()
        try:
            yield
        finally:
            self.running[endpoint.url] -= 1
            metrics.running.labels(endpoint.checkpoint).dec()


def _endpoint(row: Engine) -> Endpoint:
    manifest = row.manifest
    return Endpoint(
        checkpoint=row.checkpoint,
        kind=row.kind,
        url=row.url,
        stage=manifest["stage"],
        context=manifest["context"],
        generation=manifest["generation"],
        reward_offset=manifest["reward_offset"] or 0.0,
        stop_ids=tuple(manifest["stop_ids"]),
        special=tuple(manifest["special"]),
        merge_system=manifest.get("merge_system", False),  # rows of an earlier version lack it
        created=manifest["created"],
        folder=Path(manifest["path"]),
        pad_id=manifest.get("pad_id"),
        lost_system=tuple(manifest.get("lost_system", ())),
        takes_tools=manifest.get("takes_tools"),
        tool_parser=manifest.get("tool_parser"),
    )
