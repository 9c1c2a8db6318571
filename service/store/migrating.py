"""Bringing the store's tables up to date: one process at a time, all of it or nothing.

Alembic's migrations run in one transaction, behind a lock that other processes wait for: on PostgreSQL an advisory
lock, on SQLite the write lock, which `BEGIN IMMEDIATE` takes. Python's sqlite3 would commit before each change of a
table; it is told to leave transactions alone
(https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#pysqlite-serializable).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError, ProgrammingError

from training.artifacts import progress
from training.artifacts.errors import UserError

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x416C69676E  # PostgreSQL's advisory lock of this store's migrations; the number is arbitrary
WAIT_SECONDS = 60.0  # for another process that migrates
BUSY_SECONDS = 10.0  # for another process that writes
# Alembic keeps its context in a module: gateway and supervisor of one process migrate one after the other.
_alembic = threading.Lock()


def migrate(engine: Engine) -> None:
    """Create the tables or upgrade them to what this version knows. Nothing is changed when it fails.

    Raises:
        UserError: the database cannot be reached, is not a database, is busy, belongs to a newer version, or holds
            tables that no migration left like this.
    """
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(configuration)
    url = engine.url.render_as_string(hide_password=True)
    try:
        if _revision(engine) == scripts.get_current_head():
            return
        alone = _single(engine)
        try:
            with _alembic, alone.begin() as connection:
                _lock(connection)
                _refuse_newer(connection, scripts, url)
                configuration.attributes["connection"] = connection
                revision = MigrationContext.configure(connection).get_current_revision()
                steps = list(scripts.iterate_revisions("head", revision or "base"))
                with progress.bar("upgrading the database", len(steps)) as bar:
                    configuration.attributes["advance"] = bar.advance
                    command.upgrade(configuration, "head")
                _check_references(connection, url)
        finally:
            alone.dispose()
    except DBAPIError as error:
        raise UserError(reason(error, url)) from None


def prepare_sqlite(connection: Any, _: Any) -> None:
    """Set up a new connection to SQLite."""
    connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
    _use_wal(connection)
    # SQLite checks foreign keys only when told to.
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=NORMAL")


def _use_wal(connection: Any) -> None:
    """Let gateways read while one process writes. SQLite does not wait for the lock that this takes, so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _revision(engine: Engine) -> str | None:
    """The migration that made the tables; None in an empty database."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _single(engine: Engine) -> Engine:
    """An engine for one connection whose transactions are those of SQLAlchemy, on SQLite too."""
    if engine.dialect.name != "sqlite":
        return create_engine(engine.url, poolclass=NullPool, hide_parameters=True)
    alone = create_engine(engine.url, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(alone, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={int(WAIT_SECONDS * 1000)}")
        _use_wal(connection)
        # A table that is built anew is dropped under its old name: references to it are checked at the end instead.
        connection.execute("PRAGMA foreign_keys=OFF")

    @event.listens_for(alone, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return alone


def _lock(connection: Connection) -> None:
    """Wait for other processes that migrate this store. The lock ends with the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"set local lock_timeout = '{int(WAIT_SECONDS)}s'"))
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": LOCK})


def _refuse_newer(connection: Connection, scripts: ScriptDirectory, url: str) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise UserError(
            f"the store {url} was written by a newer version (its tables are of migration {revision}, this version "
            f"knows up to {scripts.get_current_head()}): update AlignLoop, or give another --database"
        )


def _check_references(connection: Connection, url: str) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise UserError(
                f"the store {url} has a row of {broken[0]} that refers to no row of {broken[2]}: it was not upgraded; "
                "restore a copy of it, or give another --database"
            )


def reason(error: DBAPIError, url: str) -> str:
    """What keeps the store from being used, with the fix."""
    first = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
    if "already exists" in first or "no such table" in first or isinstance(error, ProgrammingError):
        return (
            f"the tables of {url} are not those of any migration, as an interrupted upgrade of an early version left "
            f"them ({first}): restore a copy of the database, or give another --database"
        )
    if "locked" in first or "lock timeout" in first:
        return f"the database {url} is busy: end the process that holds its lock, then try again"
    if "not a database" in first or "malformed" in first:
        return f"{url} is not a whole SQLite database ({first}): restore a copy, or give another --database"
    if "readonly" in first or "read-only" in first:
        return f"the database {url} cannot be written: correct the permissions of the file and its folder"
    if "full" in first:
        return f"no room for the database {url} ({first}): free some space on its disk"
    if "does not exist" in first and isinstance(error, OperationalError):
        return f"cannot open the database {url}: {first}; create it (createdb), or correct --database"
    if isinstance(error, DatabaseError) and not isinstance(error, OperationalError):
        return f"the store {url} cannot be upgraded: {first}"
    if "unable to open" in first:
        return (
            f"cannot open the database {url}: its folder is missing, or cannot be written; correct --home or --database"
        )
    return f"cannot open the database {url}: {first}; start it, or correct --database"
