"""Tasks sampled ahead: while a labeler reads one task, the responses of the next ones are written."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from service.errors import ApiError
from service.preferences.preparation import Desk, Prepared, Wish, prepare

log = logging.getLogger(__name__)
ACTIVE_SECONDS = 600.0  # after the last request of a labeler; reading four long responses takes minutes
LOOK_SECONDS = 1.0  # between two looks at who is active and which policies are compared
PAUSE_SECONDS = 5.0  # after a failure
MOST_KEPT = 2000  # tasks kept ready for all labelers together; bounds memory


class Ahead:
    """Keeps `collect_ahead` tasks ready for each active labeler of this gateway, sampling `collect_at_once` at a time.

    They are dropped when the labeler has been away for `ACTIVE_SECONDS`, and when other policies are compared.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._seen: dict[Wish, float] = {}
        self._ready: dict[Wish, deque[Prepared]] = {}
        self._running: dict[Wish, asyncio.Task[None]] = {}
        self._pause_until: dict[Wish, float] = {}
        self._passed_over: Counter[Wish] = Counter()
        self._giving: Counter[tuple[Wish, str]] = Counter()
        self._wake = asyncio.Event()

    def keep_for(self, wish: Wish) -> None:
        """A labeler is active: keep tasks ready."""
        self._seen[wish] = time.monotonic()
        self._wake.set()

    async def take(self, wish: Wish) -> Prepared | None:
        """The oldest task that is ready for this labeler; one that is being sampled is waited for."""
        self._drop_outdated()
        if not self._ready.get(wish) and (running := self._running.get(wish)):
            await asyncio.wait({running})  # unlike `await running`, a caller that leaves does not cancel it
        ready = self._ready.get(wish)
        self._wake.set()
        return ready.popleft() if ready else None

    def passed_over(self, wish: Wish) -> int:
        """Prompts with identical responses that were met since the last task, once."""
        return self._passed_over.pop(wish, 0)

    @contextmanager
    def giving(self, wish: Wish, prompt_id: str) -> Iterator[None]:
        """Keep a prompt from being sampled again while its task is written: the store does not know of it yet."""
        self._giving[wish, prompt_id] += 1
        try:
            yield
        finally:
            self._giving[wish, prompt_id] -= 1
            self._giving += Counter()  # drops what has come to zero

    def prompts_of(self, wish: Wish) -> set[str]:
        """Prompts of the tasks that are ready for one labeler, or being given."""
        given_now = {prompt_id for labeler, prompt_id in self._giving if labeler == wish}
        return {prepared.prompt_id for prepared in self._ready.get(wish, ())} | given_now

    def prompts(self) -> set[str]:
        """Prompts of all tasks that are ready."""
        return {prepared.prompt_id for ready in self._ready.values() for prepared in ready}

    async def run(self) -> None:
        """Sample ahead until cancelled. Nothing runs while nobody is active."""
        try:
            while True:
                with suppress(TimeoutError):
                    # Not `wait_for`: cancelled just as it is woken, it forgets that it was cancelled.
                    async with asyncio.timeout(LOOK_SECONDS if self._seen else None):
                        await self._wake.wait()
                self._wake.clear()
                self._forget_inactive()
                self._drop_outdated()
                self._start()
        finally:
            running = list(self._running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _forget_inactive(self) -> None:
        gone = [wish for wish, seen in self._seen.items() if time.monotonic() - seen > ACTIVE_SECONDS]
        for wish in gone:
            for held in (self._seen, self._ready, self._pause_until, self._passed_over):
                held.pop(wish, None)
            if wish in self._running:
                self._running[wish].cancel()

    def _drop_outdated(self) -> None:
        """Drop what was sampled from other policies than those that are compared now."""
        compared = self._desk.compared
        for wish, ready in self._ready.items():
            if any(prepared.compared != compared for prepared in ready):
                self._ready[wish] = deque(prepared for prepared in ready if prepared.compared == compared)

    def _start(self) -> None:
        """Begin one more task for each labeler who has too few, those seen last first."""
        for wish in sorted(self._seen, key=self._seen.__getitem__, reverse=True):
            enough = len(self._running) >= self._desk.settings.collect_at_once
            if enough or sum(map(len, self._ready.values())) >= MOST_KEPT:
                return
            paused = time.monotonic() < self._pause_until.get(wish, 0.0)
            few = len(self._ready.get(wish, ())) < self._desk.settings.collect_ahead
            if few and not paused and wish not in self._running:
                self._running[wish] = asyncio.create_task(self._prepare(wish))

    async def _prepare(self, wish: Wish) -> None:
        try:
            prepared = await prepare(self._desk, wish, self.prompts_of(wish), self.prompts())
            if isinstance(prepared, int):
                self._passed_over[wish] += prepared
                self._pause(wish)  # no prompt is left for this labeler
            elif wish in self._seen:
                self._ready.setdefault(wish, deque()).append(prepared)
        except ApiError as error:
            log.debug("nothing is sampled ahead: %s", error)  # the labeler is told when they ask
            self._pause(wish)
        except Exception:
            log.exception("sampling ahead failed")
            self._pause(wish)
        finally:
            del self._running[wish]
            self._wake.set()

    def _pause(self, wish: Wish) -> None:
        if wish in self._seen:
            self._pause_until[wish] = time.monotonic() + PAUSE_SECONDS
