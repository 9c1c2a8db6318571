"""Writers of one process wait in a queue: SQLite lets one write at a time, and those who wait only look now and then,
so that under load one of many can miss its turn for longer than it is willing to wait."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import Connection, Engine, event

WRITES = ("INSERT", "UPDATE", "DELETE")
_TURN = "has the turn to write"  # a key of the connection's own notes


def queue_writers(engine: Engine, seconds: float) -> None:
    """Let each transaction that writes take its turn with its first write, until it ends.

    Args:
        engine: of an SQLite file.
        seconds: longest wait in the queue; after it SQLite decides, and other processes are waited for in its own way.
    """
    turn = threading.Lock()

    def take(connection: Connection, _: Any, statement: str, *__: Any) -> None:
        if statement.lstrip()[:6].upper() in WRITES and _TURN not in connection.info and turn.acquire(timeout=seconds):
            connection.info[_TURN] = True

    def leave(connection: Connection) -> None:
        if connection.info.pop(_TURN, False):
            turn.release()

    def leave_at_return(dbapi_connection: Any, connection_record: Any, reset_state: Any) -> None:
        if connection_record is not None and connection_record.info.pop(_TURN, False):
            turn.release()

    event.listen(engine, "before_cursor_execute", take)
    event.listen(engine, "commit", leave)
    event.listen(engine, "rollback", leave)
    event.listen(engine, "reset", leave_at_return)
