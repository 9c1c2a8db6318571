"""Migrations: one process at a time, all or nothing, and each reason why a store cannot be used in its own words."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.__main__ import main
from service.store.database import Store
from service.store.models import Base
from tests.support.migrating import downgrade_store, make_old_store
from training.artifacts.errors import UserError

ROOT = Path(__file__).parents[3]
INSERT_PROMPT = text(
    "insert into prompts (id, messages, source, meta, created) values ('p', '[]', 'imported', '{}', '2026-01-31')"
)

INSERT_LABELER = text("insert into labelers (id, name, pseudonym, created) values (:id, :id, :id, '2026-01-31')")
INSERT_NAMED_PROMPT = text(
    "insert into prompts (id, messages, source, meta, created) values (:id, '[]', 'imported', '{}', '2026-01-31')"
)
INSERT_TASK = text(
    "insert into tasks (id, kind, prompt_id, labeler_id, token_hash, state, shown, guideline, created, expires) "
    "values (:id, 'compare', :prompt, :labeler, :id, :state, '[]', '1', '2026-01-31', '2026-01-31')"
)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


def is_complete(url: str) -> bool:
    store = Store(url)
    with store.engine.connect() as connection:
        complete = compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    store.close()
    return complete


@pytest.mark.integration
def test_eight_processes_migrate_a_new_store_at_once(empty_database: str) -> None:
    end = python("-m", "tests.support.migrating", empty_database, "together", "8")
    assert end.returncode == 0, end.stderr[-500:]
    assert is_complete(empty_database)


@pytest.mark.integration
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("revision", [None, "0001"])
def test_killed_before_any_statement_the_next_start_finishes(
    empty_database: str, revision: str | None, step: int
) -> None:
    if revision is not None:
        make_old_store(empty_database, revision)
        store = Store(empty_database)
        with store.engine.begin() as connection:
            connection.execute(INSERT_PROMPT)
        store.close()
    end = python("-m", "tests.support.migrating", empty_database, "killed", str(step))
    assert end.returncode == 0, end.stderr[-500:]
    assert len(end.stdout.split()) >= (30 if revision is None else 5) // step
    assert is_complete(empty_database)
    if revision is not None:
        store = Store(empty_database)
        with store.engine.connect() as connection:
            assert connection.execute(text("select id from prompts")).all() == [("p",)]
        store.close()


@pytest.mark.integration
def test_prompts_of_an_old_store_keep_how_often_they_were_given(empty_database: str) -> None:
    """Migration 0007: up, down and up again."""
    states = {
        "new": (),
        "skipped": ("skipped", "expired"),
        "once": ("answered",),
        "twice": ("open", "answered", "skipped"),
    }
    make_old_store(empty_database, "0006")
    store = Store(empty_database)
    with store.engine.begin() as connection:
        for number in range(3):
            connection.execute(INSERT_LABELER, {"id": f"l{number}"})
        for prompt, its_tasks in states.items():
            connection.execute(INSERT_NAMED_PROMPT, {"id": prompt})
            for number, state in enumerate(its_tasks):
                values = {"id": f"{prompt}{number}", "prompt": prompt, "labeler": f"l{number}", "state": state}
                connection.execute(INSERT_TASK, values)
    store.migrate()
    store.close()
    for _ in range(2):
        store = Store(empty_database)
        with store.engine.connect() as connection:
            tiers = connection.execute(text("select id, tier from prompts")).all()
        assert dict(map(tuple, tiers)) == {"new": 0, "skipped": 1, "once": 2, "twice": 3}
        store.close()
        assert is_complete(empty_database)
        downgrade_store(empty_database, "0006")
        Store(empty_database).migrate()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(UserError, match=r"newer version \(its tables are of migration 9999.*update AlignLoop"):
        store.migrate()
    with store.engine.connect() as connection:
        assert connection.execute(text("select version_num from alembic_version")).all() == [("9999",)]


def test_tables_of_an_interrupted_early_version_are_told(empty_database: str) -> None:
    store = Store(empty_database)
    with store.engine.begin() as connection:
        connection.execute(text("create table aliases (name varchar(100) primary key)"))
    with pytest.raises(UserError, match=r"not those of any migration.*restore a copy"):
        store.migrate()
    store.close()


@pytest.mark.unit
def test_a_row_that_refers_to_nothing_stops_an_upgrade(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    make_old_store(url, "0002")
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.execute(
            "insert into task_responses (task_id, position, text, sampling) values ('none', 0, 'x', '{}')"
        )
    with pytest.raises(UserError, match="a row of task_responses that refers to no row of tasks"):
        Store(url).migrate()
    with sqlite3.connect(tmp_path / "old.db") as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [("0002",)]


@pytest.mark.unit
def test_each_cause_has_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.db").write_text("not a database, but a text that is long enough for a header of SQLite. " * 9)
    with pytest.raises(UserError, match="is not a whole SQLite database"):
        Store(f"sqlite:///{tmp_path}/text.db").migrate()
    with pytest.raises(UserError, match="cannot make the database"):
        Store(f"sqlite:///{tmp_path}/text.db/service.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot open the database"):
        Store(f"sqlite:///{tmp_path}/folder").migrate()
    with pytest.raises(UserError, match="cannot open the database postgresql"):
        Store("postgresql://nobody:secret@127.0.0.1:1/x").migrate()
    monkeypatch.setattr("service.store.migrating.WAIT_SECONDS", 0.2)
    locked = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    locked.execute("PRAGMA journal_mode=WAL")
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="is busy: end the process that holds its lock"):
        Store(f"sqlite:///{tmp_path}/locked.db").migrate()
    locked.close()


@pytest.mark.integration
def test_a_missing_database_of_a_server_is_told(empty_database: str) -> None:
    if "postgresql" not in empty_database:
        pytest.skip("SQLite makes its file")
    with pytest.raises(UserError, match="does not exist; create it"):
        Store(f"{empty_database}_none").migrate()


@pytest.mark.unit
@pytest.mark.parametrize(
    "url, fault",
    [
        ("service.db", "is not a database URL"),
        ("mysql://root:secret@host/x", "databases of mysql are not supported"),
        ("postgresql+asyncpg://root:secret@host/x", "are not supported"),
        ("postgresql://root:secret@host:port/x", "is not a database URL"),
        ("postgresql://root:secret@[host/x", "is not a database URL|cannot open"),
    ],
)
def test_a_wrong_url_is_one_line_without_its_password(url: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=fault) as caught:
        main(["keys", "list", "--database", url])
    assert "secret" not in str(caught.value)


@pytest.mark.unit
def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = Store(f"sqlite:///{tmp_path}/home/service.db")
        store.migrate()
        with store.session() as session:
            session.execute(INSERT_PROMPT)
            session.flush()
            files = sorted(Path(tmp_path / "home").iterdir())
            assert [file.name for file in files] == ["service.db", "service.db-shm", "service.db-wal"]
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        store.close()
    finally:
        os.umask(before)


def test_a_failed_statement_does_not_show_what_it_held(store: Store) -> None:
    insert = text("insert into aliases (name, checkpoint, version, updated) values (:name, 'x', 1, '2026-01-31')")
    with store.engine.begin() as connection:
        connection.execute(insert, {"name": "a secret"})
        with pytest.raises(IntegrityError) as caught:
            connection.execute(insert, {"name": "a secret"})
        connection.rollback()
    # PostgreSQL's own detail names the value of the key that is there already.
    assert "a secret" not in str(caught.value).split("DETAIL")[0]
