"""Connections to the store, and bringing its tables up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, func, select
from sqlalchemy import engine as sa
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from service.store.models import UtcDateTime, now
from training.artifacts.errors import UserError

MIGRATIONS = Path(__file__).parent / "migrations"


class Store:
    """The service's database. `Store(url)` connects; `migrate` creates or upgrades the tables."""

    def __init__(self, url: str) -> None:
        """Connect.

        Args:
            url: `sqlite:///runs/service.db` or `postgresql+psycopg://user@host/database`.

        Raises:
            UserError: the URL is malformed.
        """
        try:
            parsed = sa.make_url(url)
        except ArgumentError:
            raise UserError(
                f"{url!r} is not a database URL: use sqlite:///FILE or postgresql+psycopg://HOST/NAME"
            ) from None
        if parsed.drivername in {"postgres", "postgresql"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine = create_engine(parsed, pool_pre_ping=True)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        with self._sessions.begin() as session:
            yield session

    def migrate(self) -> None:
        """Run the Alembic migrations up to the newest. Raises `UserError` when the database cannot be reached."""
        configuration = Config()
        configuration.set_main_option("script_location", str(MIGRATIONS))
        try:
            with _alembic, self.engine.begin() as connection:
                configuration.attributes["connection"] = connection
                command.upgrade(configuration, "head")
        except OperationalError as error:
            url = self.engine.url.render_as_string(hide_password=True)
            raise UserError(f"cannot open the database {url}: {error.orig}") from None

    def close(self) -> None:
        self.engine.dispose()


def clock(session: Session) -> datetime:
    """The time on the database's own clock, the one that every machine shares."""
    if session.get_bind().dialect.name == "sqlite":  # a file: its users share a machine
        return now()
    return session.scalar(select(func.clock_timestamp(type_=UtcDateTime()))) or now()


# Alembic keeps its context in a module: gateway and supervisor of one process migrate one after the other.
_alembic = threading.Lock()


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # WAL lets gateways read while one process writes; SQLite checks foreign keys only when asked.
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=10000", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
