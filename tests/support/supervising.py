"""Supervisors whose time and background work are in a test's hands."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from rich.console import Console
from sqlalchemy import select

from service.administration import aliases as administration
from service.engines.supervisor import Supervisor
from service.settings import Settings
from service.store.database import Store
from service.store.models import Alias, Engine
from tests.support.stub_engines import StubEngines

ALIAS = "policy/production"


class Later(Executor):
    """An executor whose work waits until it is told to do some."""

    def __init__(self) -> None:
        self.queue: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.queue.append((future, lambda: function(*arguments, **keywords)))
        return future

    def work(self) -> None:
        """Do all of it."""
        queue, self.queue = self.queue, []
        for future, function in queue:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)


class HandDriven(Supervisor):
    """`clock` is its time in seconds; `work` does what it put into the background."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        name: str = "one",
        serve: Sequence[str] = (),
        remote_urls: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.output = io.StringIO()
        super().__init__(settings, serve, remote_urls or {}, Console(file=self.output, width=1000), clock)
        self.name = name
        for pool in (self.pool, self.watchers):
            pool.shutdown()
        self.later = Later()
        self.pool = self.watchers = self.later

    def work(self) -> None:
        self.later.work()


class Machine:
    """A store with policies a, b, c, and supervisors over stub engines."""

    def __init__(self, settings: Settings, store: Store, stubs: StubEngines) -> None:
        self.settings, self.store, self.stubs, self.time = settings, store, stubs, 0.0
        self.supervisors: list[HandDriven] = []

    def supervisor(self, name: str = "one", **more: Any) -> HandDriven:
        self.supervisors.append(HandDriven(self.settings, lambda: self.time, name, **more))
        return self.supervisors[-1]

    def run(self, rounds: int = 1, seconds: float = 70) -> None:
        """Time passes, ticks, background work."""
        for _ in range(rounds):
            self.time += seconds
            for one in self.supervisors:
                one.tick()
                one.work()
                one.tick()

    def promote(self, checkpoint: str, **more: Any) -> None:
        with self.store.session() as session:
            administration.promote(session, self.settings.checkpoints, ALIAS, checkpoint, "me", **more)

    def alias(self) -> tuple[str, str | None]:
        with self.store.session() as session:
            row = session.get_one(Alias, ALIAS)
            return row.checkpoint, row.served

    def rows(self, checkpoint: str) -> list[Engine]:
        with self.store.session() as session:
            return list(session.scalars(select(Engine).where(Engine.checkpoint == checkpoint)))
