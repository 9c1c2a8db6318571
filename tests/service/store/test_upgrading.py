"""Migrations over filled tables: every row and value that the version before wrote is there, up and down."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from service.store.database import Store
from service.store.migrating import MIGRATIONS
from tests.support import old_stores
from tests.support.migrating import downgrade_store, make_old_store, upgrade_store
from tests.support.old_stores import all_columns, contents, differences
from training.artifacts import progress

pytestmark = pytest.mark.integration
CONFIGURATION = Config()
CONFIGURATION.set_main_option("script_location", str(MIGRATIONS))
REVISIONS = [one.revision for one in reversed(list(ScriptDirectory.from_config(CONFIGURATION).walk_revisions()))]


def changed(url: str, change: Callable[[], None]) -> list[str]:
    """What is not as it was in the tables of the database after a change of its migration."""
    store = Store(url)
    columns, before = all_columns(store.engine), contents(store.engine)
    store.close()
    change()
    store = Store(url)
    after = contents(store.engine, before, columns)
    store.close()
    return list(differences(before, after))


@pytest.mark.parametrize("rows", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_every_row_of_the_first_version_is_there_after_the_upgrade_and_the_way_back(
    empty_database: str, rows: int
) -> None:
    make_old_store(empty_database, "0001")
    store = Store(empty_database)
    counts = old_stores.fill(store.engine, rows)
    assert sum(counts.values()) >= rows
    columns, before = all_columns(store.engine), contents(store.engine)
    began = time.monotonic()
    store.migrate()
    print(f"upgraded {sum(counts.values()):,} rows in {time.monotonic() - began:.1f} s")
    assert list(differences(before, contents(store.engine, before, columns))) == []
    downgrade_store(empty_database, "0001")  # takes away what later versions added, and nothing else
    assert all_columns(store.engine) == columns
    assert list(differences(before, contents(store.engine))) == []
    store.migrate()
    assert list(differences(before, contents(store.engine, before, columns))) == []
    store.close()


@pytest.mark.unit
def test_an_upgrade_that_takes_long_shows_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    make_old_store(url, "0001")
    monkeypatch.setattr(progress, "SHORT_SECONDS", 0.0)
    capsys.readouterr()
    Store(url).migrate()
    assert "upgrading the database: done in 0:0" in capsys.readouterr().err
    Store(url).migrate()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("before", "after"), list(pairwise(REVISIONS)))
def test_one_migration_up_and_down_keeps_what_the_version_before_wrote(
    empty_database: str, before: str, after: str
) -> None:
    make_old_store(empty_database, before)
    store = Store(empty_database)
    old_stores.fill(store.engine, 200)
    columns, rows = all_columns(store.engine), contents(store.engine)
    assert changed(empty_database, lambda: upgrade_store(empty_database, after)) == []
    downgrade_store(empty_database, before)
    assert all_columns(store.engine) == columns
    assert list(differences(rows, contents(store.engine))) == []
    store.close()


def test_requests_for_engines_of_the_first_versions_get_their_own_table(empty_database: str) -> None:
    make_old_store(empty_database, "0003")
    store = Store(empty_database)
    old_stores.fill(store.engine, 500)
    with store.engine.begin() as connection:
        connection.execute(text("update engines set state = 'wanted', checkpoint = 'sft-1' where state = 'failed'"))
        kept = connection.scalar(text("select count(*) from engines where state <> 'wanted'"))
    store.migrate()
    with store.engine.connect() as connection:
        assert connection.execute(text("select checkpoint from wanted_engines")).all() == [("sft-1",)]
        assert connection.scalar(text("select count(*) from engines")) == kept
    store.close()
