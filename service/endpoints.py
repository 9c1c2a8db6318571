"""The gateway's view of the endpoint table: which checkpoint is served where, and what the aliases mean now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from service import metrics
from service.errors import ApiError
from service.store.database import Store, clock
from service.store.models import Alias, Engine

REFRESH_SECONDS = 0.5
STALE = timedelta(seconds=20)  # a supervisor beats every second; one that stopped took its engines along
OLD_SECONDS = 10.0  # a table that was not read for this long may be wrong: the gateway is not ready
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
        figures: of the manifest, for the metrics.
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
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """A snapshot of the store.

    Attributes:
        ready: engines that answer, by checkpoint.
        aliases: alias -> the checkpoint that serves it; without those that nothing has served yet.
        targets: alias -> the checkpoint that it was promoted to.
        states: (checkpoint, state) of every engine.
        failures: checkpoint -> why an engine of it failed.
        given_up: those of `failures` that are not tried again, and no engine of which starts or runs.
    """

    ready: Mapping[str, tuple[Endpoint, ...]]
    aliases: Mapping[str, str]
    targets: Mapping[str, str]
    states: tuple[tuple[str, str], ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    given_up: frozenset[str] = frozenset()

    def why_down(self, checkpoint: str) -> str:
        """Why no engine of a checkpoint answers, for the operator."""
        failure = self.failures.get(checkpoint)
        return f"no engine of {checkpoint} is ready" + (f": {failure}" if failure else "")


class Endpoints:
    """Reads the table twice a second; requests are answered from memory.

    Args:
        answers: whether the engine at a URL answers for a checkpoint. It is called for engines in use whose supervisor
            is not heard of any more: it may be gone and they with it, or kept from writing by a busy or lost database.
    """

    def __init__(self, store: Store, answers: Callable[[str, str], bool] = lambda url, checkpoint: False) -> None:
        self._store = store
        self._answers = answers
        self._refreshed = time.monotonic()
        self._complaints: set[str] = set()
        self.view = View({}, {}, {}, ())
        self.running: Counter[str] = Counter()
        metrics.table_age.set_function(lambda: self.age)

    async def follow(self) -> None:
        """Refresh forever. Whatever fails leaves the last view in place; `age` then grows."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
            except SQLAlchemyError as error:
                log.warning("cannot read the endpoint table, keeping the last one: %s", error)
            except Exception:
                log.exception("cannot read the endpoint table, keeping the last one")
            await asyncio.sleep(REFRESH_SECONDS)

    def refresh(self) -> None:
        """Read the table once. A row that cannot be understood, such as another version's, is left out and logged."""
        with self._store.session() as session:
            # First the aliases: a supervisor lets an engine go only some time after no alias is served by it.
            aliases = session.scalars(select(Alias)).all()
            oldest = clock(session) - STALE
            rows = session.scalars(select(Engine)).all()
        rows = [row for row in rows if row.heartbeat > oldest or self._goes_on(row)]
        ready: dict[str, tuple[Endpoint, ...]] = {}
        failures: dict[str, str] = {}
        for row in rows:
            if row.state == "failed":
                failures[row.checkpoint] = f"{row.detail}{'; it is not tried again' if row.given_up else ''}"
            if row.state == "ready" and (endpoint := self._readable(row)) is not None:
                ready[row.checkpoint] = (*ready.get(row.checkpoint, ()), endpoint)
        served = {alias.name: alias.served for alias in aliases if alias.served}
        targets = {alias.name: alias.checkpoint for alias in aliases}
        states = tuple((row.checkpoint, row.state) for row in rows)
        tried = {row.checkpoint for row in rows if not row.given_up}
        given_up = frozenset(row.checkpoint for row in rows if row.given_up and row.checkpoint not in tried)
        self.view = View(ready, served, targets, states, failures, given_up)
        self._refreshed = time.monotonic()
        metrics.show_engines(states)
        answering = [ready[checkpoint][0] for checkpoint in set(served.values()) if checkpoint in ready]
        metrics.show_figures(
            {(one.checkpoint, one.stage, name): value for one in answering for name, value in one.figures.items()}
        )

    @property
    def age(self) -> float:
        """Seconds since the table was last read."""
        return time.monotonic() - self._refreshed

    def _goes_on(self, row: Engine) -> bool:
        """Whether an engine that was in use answers although its supervisor is silent."""
        in_use = {endpoint.url for endpoint in self.view.ready.get(row.checkpoint, ())}
        return row.state == "ready" and row.url in in_use and self._answers(row.url, row.checkpoint)

    def _readable(self, row: Engine) -> Endpoint | None:
        try:
            return _endpoint(row)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if row.id not in self._complaints:
                self._complaints.add(row.id)
                reason = f"{type(error).__name__}: {error}"
                log.warning("the engine row %s of %s is left out (%s): is its supervisor of another version?",
                            row.id, row.checkpoint, reason)  # fmt: skip
            return None

    def problems(self) -> dict[str, str]:
        """What keeps the gateway from being ready, by name: a table that cannot be read, aliases that nothing serves.

        Of the aliases those named production count.
        """
        problems = {}
        if self.age > OLD_SECONDS:
            problems["store"] = f"the endpoint table was last read {self.age:.0f} s ago: see the log for the reason"
        for name, target in self.view.targets.items():
            checkpoint = self.view.aliases.get(name, target)
            if name.endswith("/production") and (name not in self.view.aliases or checkpoint not in self.view.ready):
                problems[name] = self.view.why_down(checkpoint)
        return problems

    def candidates(self, model: str, kind: str) -> list[Endpoint]:
        """The engines of a checkpoint or alias, the least busy first.

        Raises:
            ApiError: 404 for an unknown name, 400 for a model of the other kind, 503 when no engine is ready.
        """
        view = self.view
        replicas = view.ready.get(view.aliases.get(model, model))
        if not replicas or (model in view.targets and model not in view.aliases):
            known = {c for c, _ in view.states} | set(view.aliases.values()) | set(view.targets)
            if view.aliases.get(model, model) in known:
                raise ApiError(
                    503, f"{model} is not ready: its engine is starting or down", code="model_not_ready",
                    headers={"Retry-After": "5"},
                )  # fmt: skip
            names = ", ".join(sorted([*view.aliases, *view.ready])) or "none yet"
            message = f"the model {model!r} does not exist (served: {names})"
            raise ApiError(404, message, param="model", code="model_not_found")
        if replicas[0].kind != kind:
            use = "/score" if replicas[0].kind == "reward" else "/v1/chat/completions"
            raise ApiError(400, f"{model} is a {replicas[0].kind} model: send it to {use}", param="model")
        return self.replicas(replicas[0])

    def replicas(self, endpoint: Endpoint) -> list[Endpoint]:
        """The engines of an engine's checkpoint, the least busy first."""
        ready = self.view.ready.get(endpoint.checkpoint, (endpoint,))
        return sorted(ready, key=lambda one: self.running[one.url])

    def find(self, model: str, kind: str) -> Endpoint:
        """The first of `candidates`; raises as it does."""
        return self.candidates(model, kind)[0]

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
    """A row as an endpoint. Raises `KeyError`, `TypeError`, `ValueError` or the like for one that is not understood."""
    manifest = row.manifest
    datetime.fromisoformat(manifest["created"])
    if row.kind not in ("policy", "reward"):
        raise ValueError(f"unknown kind {row.kind!r}")
    return Endpoint(
        checkpoint=row.checkpoint,
        kind=row.kind,
        url=row.url,
        stage=manifest["stage"],
        context=int(manifest["context"]),
        generation=dict(manifest["generation"]),
        reward_offset=float(manifest["reward_offset"] or 0.0),
        stop_ids=tuple(int(token) for token in manifest["stop_ids"]),
        special=tuple(manifest["special"]),
        merge_system=manifest.get("merge_system", False),  # rows of an earlier version lack it
        created=manifest["created"],
        folder=Path(manifest["path"]),
        pad_id=manifest.get("pad_id"),
        lost_system=tuple(manifest.get("lost_system", ())),
        takes_tools=manifest.get("takes_tools"),
        tool_parser=manifest.get("tool_parser"),
        figures={str(name): float(value) for name, value in manifest.get("figures", {}).items()},
    )
