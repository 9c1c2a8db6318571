"""The tables: the migrations make what the models say, on SQLite and PostgreSQL; times keep their zone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from service.store.database import Store
from service.store.models import Base, Key


def test_migrations_make_the_models_tables(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.migrate()
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_threads_of_one_process_migrate_one_after_the_other(tmp_path: Path) -> None:
    """The gateway and its supervisor both migrate when they start; Alembic's own context is one per process."""
    stores = [Store(f"sqlite:///{tmp_path}/{number}.db") for number in range(4)]
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(Store.migrate, [*stores, *stores]))
    for one in stores:
        one.close()


def test_times_are_utc_and_lists_come_back_as_they_were(store: Store) -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))
    with store.session() as session:
        session.add(Key(name="é", secret_hash="0" * 64, prefix="al-", scopes=["eval", "admin"], expires=noon))
    with store.session() as session:
        key = session.scalars(select(Key)).one()
        assert key.expires == noon
        assert key.expires.tzinfo is UTC
        assert (key.name, key.scopes) == ("é", ["eval", "admin"])


def test_a_failed_block_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.session() as session:
            session.add(Key(name="x", secret_hash="0" * 64, prefix="al-", scopes=[]))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.session() as session:
        assert session.scalars(select(Key)).all() == []
