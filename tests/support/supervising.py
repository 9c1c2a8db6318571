"""A supervisor whose time and background work are in a test's hands."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from rich.console import Console

from service.engines.supervisor import Supervisor
from service.settings import Settings


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
