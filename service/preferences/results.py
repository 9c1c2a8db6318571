"""The figures of the results page, computed once for all who look at them."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select

from service.preferences import answers, export
from service.preferences.statistics import Summary, summarize
from service.store.database import Store
from service.store.models import Answer, Labeler

QUICK_SECONDS = 1.0  # of CPU; figures that take longer are kept for `PATIENCE` times as long as they took
PATIENCE = 10
Version = tuple[int | None, int | None]


class Results:
    """Computes figures anew when there are new answers, one computation at a time and in a thread of its own: the
    threads that look up keys and sessions never wait for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="results")
        self._lock = asyncio.Lock()
        self._known: tuple[Version, Summary] | None = None
        self._fresh_until = 0.0

    async def summary(self) -> Summary:
        """The figures of all blind votes. With very many answers they may be a minute old."""
        async with self._lock:
            self._known = await asyncio.get_running_loop().run_in_executor(self._thread, self._compute)
            return self._known[1]

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compute(self) -> tuple[Version, Summary]:
        began = time.thread_time()
        with self._store.session() as session:
            # Every answer, correction and undo adds a row.
            rows = session.scalar(select(func.count()).select_from(Answer))
            excluded = session.scalar(select(func.count()).select_from(Labeler).where(Labeler.excluded.is_not(None)))
            if self._known is not None:
                version = self._known[0]
                if version == (rows, excluded) or (version[1] == excluded and time.monotonic() < self._fresh_until):
                    return self._known
            figures = summarize(export.comparisons(session, blind=True), answers.changes(session))
        seconds = time.thread_time() - began
        self._fresh_until = time.monotonic() + (PATIENCE * seconds if seconds > QUICK_SECONDS else 0.0)
        return (rows, excluded), figures
