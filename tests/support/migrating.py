"""Stores of earlier versions, and migrations that are killed.

`python -m tests.support.migrating URL killed STEP` migrates the store at URL again and again, each time ended by
SIGKILL STEP statements later, until a migration gets to its end. It prints a line per kill, and fails when a start
fails.
`python -m tests.support.migrating URL together N` migrates it in N processes at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, event

from service.store.database import Store
from service.store.migrating import MIGRATIONS, _single


def make_old_store(url: str, revision: str) -> None:
    """Create the tables as the migration `revision` left them."""
    store = Store(url)
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    with store.engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)
    store.close()


def upgrade_store(url: str, revision: str) -> None:
    """Bring the tables to where the migration `revision` leaves them."""
    _change(url, revision, command.upgrade)


def downgrade_store(url: str, revision: str) -> None:
    """Take the tables back to how the migration `revision` left them."""
    _change(url, revision, command.downgrade)


def _change(url: str, revision: str, change: Callable[[Config, str], None]) -> None:
    store = Store(url)
    alone = _single(store.engine)
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    with alone.begin() as connection:
        configuration.attributes["connection"] = connection
        change(configuration, revision)
    alone.dispose()
    store.close()


def _migrate(url: str, killed_before: int) -> None:
    statements = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1
        if statements == killed_before:
            os.kill(os.getpid(), signal.SIGKILL)

    store = Store(url)
    store.migrate()
    store.close()


def _start(url: str, killed_before: int = 0) -> int:
    """Migrate in a process of its own, and return its number."""
    child = os.fork()
    if child == 0:
        try:
            _migrate(url, killed_before)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def _is_killed(process: int) -> bool:
    """Wait for the process. Ends this one when it failed by itself."""
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        sys.exit("a migration failed")
    return os.WIFSIGNALED(status)


def main() -> None:
    """The command."""
    url, what, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "together":
        for process in [_start(url) for _ in range(number)]:
            _is_killed(process)
        return
    statement = 1
    while _is_killed(_start(url, statement)):
        print(statement, flush=True)
        statement += number


if __name__ == "__main__":
    main()
