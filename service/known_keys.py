"""API keys looked up by hash, and kept while the store does not answer."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from service.auth import IMPLIED, Caller
from service.errors import STORE_UNAVAILABLE, ApiError
from service.keys import digest
from service.store.database import Store
from service.store.models import Key, now

FRESH_SECONDS = 1.0  # a revoked key works no longer than this
AHEAD_SECONDS = 0.5  # a key that is used after this is read again, while requests use what is known
KEPT_SECONDS = 300.0  # a known key works this long while the store does not answer
PATIENCE_SECONDS = 2.0  # a known key waits this long for the store
SIZE = 10_000  # keys that are remembered


@dataclass(frozen=True)
class _Entry:
    """What the store said of a key: the caller, None for one that does not work, and when it was read."""

    read: float
    caller: Caller | None
    expires: datetime | None = None


class KnownKeys:
    """Looks keys up by hash.

    An answer is kept for a second, so that a revoked key stops working at once. While the store fails or does not
    answer, a key that worked goes on working for five minutes; no request waits for the store longer than another.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lent: dict[str, Caller] = {}
        self._known: dict[str, _Entry] = {}
        self._reading: dict[str, asyncio.Task[_Entry]] = {}
        self._failed = -KEPT_SECONDS  # when the store last failed
        # Its own threads: a store that hangs takes none from other work, nor other work from it.
        self._pool = ThreadPoolExecutor(4, "keys")

    def lend(self, name: str, scope: str) -> str:
        """A key that no store holds: it works as long as this process lives, and not a moment longer."""
        secret = f"al-{secrets.token_urlsafe(32)}"
        self._lent[digest(secret)] = Caller(name, allowed([scope]))
        return secret

    async def find(self, secret: str) -> Caller | None:
        """The caller of a key, None for one that does not work.

        Raises:
            ApiError: 503, an unknown key while the store does not answer.
        """
        hashed = digest(secret)
        if hashed in self._lent:
            return self._lent[hashed]
        entry = self._known.get(hashed)
        if entry is None or time.monotonic() - entry.read > FRESH_SECONDS:
            entry = await self._renewed(hashed, entry)
        elif time.monotonic() - entry.read > AHEAD_SECONDS:
            self._reading_of(hashed)
        return None if entry.expires is not None and entry.expires <= now() else entry.caller

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _renewed(self, hashed: str, entry: _Entry | None) -> _Entry:
        usable = entry is not None and entry.caller is not None and time.monotonic() - entry.read < KEPT_SECONDS
        if usable and entry is not None and time.monotonic() - self._failed < FRESH_SECONDS:
            return entry  # the store failed a moment ago
        reading = self._reading_of(hashed)
        try:
            return await asyncio.wait_for(asyncio.shield(reading), PATIENCE_SECONDS if usable else None)
        except (*STORE_UNAVAILABLE, TimeoutError):
            self._failed = time.monotonic()
            if usable and entry is not None:
                return entry
            message = "the service's database is busy or cannot be reached, and it does not know this key yet"
            raise ApiError(503, message, code="store_unavailable", headers={"Retry-After": "5"}) from None

    def _reading_of(self, hashed: str) -> asyncio.Task[_Entry]:
        """The look into the store that is under way for a key, or a new one."""
        reading = self._reading.get(hashed)
        if reading is None:
            reading = asyncio.ensure_future(self._read_store(hashed))
            self._reading[hashed] = reading
            reading.add_done_callback(lambda task: self._finish(hashed, task))
        return reading

    async def _read_store(self, hashed: str) -> _Entry:
        entry = await asyncio.get_running_loop().run_in_executor(self._pool, self._read, hashed)
        if len(self._known) >= SIZE:
            self._known.clear()
        self._known[hashed] = entry
        return entry

    def _finish(self, hashed: str, task: asyncio.Task[_Entry]) -> None:
        del self._reading[hashed]
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may have

    def _read(self, hashed: str) -> _Entry:
        read = time.monotonic()
        with self._store.session() as session:
            key = session.scalar(select(Key).where(Key.secret_hash == hashed))
            if key is None or key.revoked or (key.expires and key.expires <= now()):
                return _Entry(read, None)
            return _Entry(read, Caller(key.name, allowed(key.scopes), str(key.id)), key.expires)


def allowed(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes, with those that they imply."""
    return frozenset(name for scope in scopes for name in (scope, *IMPLIED.get(scope, ())))
