"""Connections to the store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DataError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from service.store import migrating
from service.store.models import UtcDateTime, now
from service.store.queueing import queue_writers
from training.artifacts.errors import UserError

EXAMPLES = "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
LONGEST_PAUSE = 0.5  # seconds between two of many transactions
POOL_SECONDS = 5  # longest wait for a free connection
# A server that is gone, or a network that swallows packets, is noticed in seconds.
POSTGRESQL = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


class Store:
    """The service's database. `Store(url)` connects; `migrate` creates or upgrades the tables."""

    def __init__(self, url: str) -> None:
        """Connect.

        Args:
            url: `sqlite:///runs/service.db` or `postgresql+psycopg://user@host/database`.

        Raises:
            UserError: the URL is malformed or of another database, or its file cannot be made.
        """
        parsed = parse_url(url)
        backend = parsed.get_backend_name()
        if backend == "sqlite" and parsed.database:
            _make_private(Path(parsed.database))
        options: dict[str, Any] = {"connect_args": POSTGRESQL} if backend == "postgresql" else {}
        if parsed.database not in (None, "", ":memory:"):  # in memory there is one connection per thread
            options["pool_timeout"] = POOL_SECONDS
        # Parameters of a failed statement would put prompts, names and tokens into the log.
        self.engine = create_engine(parsed, pool_pre_ping=True, hide_parameters=True, **options)
        if backend == "sqlite":
            event.listen(self.engine, "connect", migrating.prepare_sqlite)
            queue_writers(self.engine, migrating.BUSY_SECONDS)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        with self._sessions.begin() as session:
            yield session

    @property
    def has_one_writer(self) -> bool:
        """Whether everybody waits while one connection writes."""
        return self.engine.dialect.name == "sqlite"

    def give_way(self, began: float) -> None:
        """Between many transactions, where everybody waits while one writes: pause for as long as the last one took.

        Args:
            began: when it did, by `time.monotonic`.
        """
        if self.has_one_writer:
            time.sleep(min(LONGEST_PAUSE, time.monotonic() - began))

    def migrate(self) -> None:
        """Bring the tables up to date. Raises what `migrating.migrate` does."""
        migrating.migrate(self.engine)

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn a store that does not answer, or takes a value not, into a `UserError` for the command line."""
    try:
        yield
    except (DataError, UnicodeEncodeError):
        message = "a value cannot be stored: shorten it, and remove control characters and half characters"
        raise UserError(message) from None
    except (OperationalError, InterfaceError) as error:
        raise UserError(migrating.reason(error, parse_url(url).render_as_string(hide_password=True))) from None


def clock(session: Session) -> datetime:
    """The time on the database's own clock, the one that every machine shares."""
    if session.get_bind().dialect.name == "sqlite":  # a file: its users share a machine
        return now()
    return session.scalar(select(func.clock_timestamp(type_=UtcDateTime()))) or now()


def parse_url(url: str) -> URL:
    """A database URL. Raises `UserError`, which names neither the URL nor the password in it."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter: a port that is not a number
        raise UserError(f"the setting `database` is not a database URL: use {EXAMPLES}") from None
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise UserError(f"databases of {parsed.drivername} are not supported: use {EXAMPLES}")
    return parsed


def _make_private(file: Path) -> None:
    """Create the file for its owner alone; SQLite gives the files beside it the same permissions."""
    if str(file).startswith((":memory:", "file:")):
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        if not file.is_file():
            raise UserError(f"cannot make the database {file}: {error.strerror}; name another --database") from None
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        raise UserError(
            f"the database {file} cannot be written, and SQLite writes beside it even to read: correct the permissions "
            "or the mount of its folder, or use PostgreSQL with --database"
        )
