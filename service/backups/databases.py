"""Copies of the database while it is in use: by SQLite's own backup, and by PostgreSQL's `pg_dump` of a snapshot."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, create_engine, func, inspect, select, table, text

from service.store.database import POSTGRESQL, Store, parse_url
from training.artifacts.errors import UserError
from training.artifacts.processes import die_with_parent

PAGES = 1000  # of SQLite's, copied at once: the service writes in between
FILES = {"sqlite": "database.sqlite", "postgresql": "database.pgdump"}


class Copied(NamedTuple):
    """A copy of a database.

    Attributes:
        file: its name.
        rows: of each table, when it was copied.
    """

    file: str
    rows: dict[str, int]


def copy(store: Store, folder: Path) -> Copied:
    """Write a copy of the database, as it is at one moment, into the folder.

    Raises:
        UserError: `pg_dump` is missing, too old or fails.
    """
    name = FILES[store.engine.dialect.name]
    if store.engine.dialect.name == "sqlite":
        _copy_sqlite(str(store.engine.url.database), folder / name)
        return Copied(name, rows_of(f"sqlite:///{folder / name}"))
    with store.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        snapshot = connection.scalar(text("select pg_export_snapshot()"))
        options = ["--format", "custom", "--no-owner", "--no-privileges", "--snapshot", str(snapshot)]
        _run("pg_dump", [*options, "--file", str(folder / name)], store.engine.url)
        return Copied(name, _count_rows(connection))


def restore(file: Path, url: str) -> None:
    """Make the database at `url` what it was when the file was written.

    It must be empty (`refuse_used`).

    Raises:
        UserError: it is of another kind than the copy, or the copy is damaged.
    """
    parsed = parse_url(url)
    kind = parsed.get_backend_name()
    if file.name != FILES[kind]:
        raise UserError(f"{file} is not a copy of a database of {kind}: give a --database of the kind that it was")
    if kind == "sqlite":
        _restore_sqlite(file, parsed)
        return
    _run("pg_restore", ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges",
                        "--dbname", _name_of(parsed), str(file)], None, _environment(parsed))  # fmt: skip


def rows_of(url: str) -> dict[str, int]:
    """Rows of each table of a database."""
    engine = create_engine(parse_url(url), hide_parameters=True)
    try:
        with engine.connect() as connection:
            return _count_rows(connection)
    finally:
        engine.dispose()


def _count_rows(connection: Connection) -> dict[str, int]:
    names = sorted(inspect(connection).get_table_names())
    return {name: connection.scalar(select(func.count()).select_from(table(name))) or 0 for name in names}


def _copy_sqlite(source: str, target: Path) -> None:
    target.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing, pages=PAGES)
            writing.execute("PRAGMA journal_mode=DELETE")  # one file, whole
    except sqlite3.Error as error:  # no room, or a damaged source
        raise UserError(f"{source} could not be copied to {target.parent} ({error}): make room, or mend it") from None


def _restore_sqlite(file: Path, url: URL) -> None:
    target = Path(str(url.database))
    partial = target.with_name(f".{target.name}.restoring")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        shutil.copyfile(file, partial)
        with closing(sqlite3.connect(partial)) as connection:
            problem = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if problem != "ok":
            raise UserError(f"{file} is damaged ({problem}): restore another backup")
        for beside in ("-wal", "-shm"):
            target.with_name(target.name + beside).unlink(missing_ok=True)
        partial.replace(target)
    except sqlite3.DatabaseError as error:
        raise UserError(f"{file} is damaged ({error}): restore another backup") from None
    finally:
        partial.unlink(missing_ok=True)


def refuse_used(url: str) -> None:
    """Raise `UserError` for a database that has tables."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).is_file():
        return
    rows = rows_of(url)
    if rows:
        shown = parsed.render_as_string(hide_password=True)
        raise UserError(
            f"the database {shown} has {sum(rows.values()):,} rows in {len(rows)} tables: move it away, or give an "
            "empty one"
        )


def _name_of(url: URL) -> str:
    """A URL for PostgreSQL's own programs, without the password, which other users would see."""
    return url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)


def _environment(url: URL) -> dict[str, str]:
    environment = {"PGCONNECT_TIMEOUT": str(POSTGRESQL["connect_timeout"])}
    return environment | ({"PGPASSWORD": str(url.password)} if url.password else {})


def _run(program: str, options: Sequence[str], url: URL | None, more: Mapping[str, str] | None = None) -> None:
    command: list[Any] = [program, *options]
    if url is not None:
        command += ["--dbname", _name_of(url)]
        more = _environment(url)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | dict(more or {}), preexec_fn=die_with_parent
        )
    except FileNotFoundError:
        raise UserError(
            f"{program} is not installed: install PostgreSQL's client programs (postgresql-client)"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise UserError(f"{program} failed: {reason}")
