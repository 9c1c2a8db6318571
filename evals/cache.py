"""Answers on disk, so that a run that ended early resumes, and none is paid for twice.

An answer is kept under the hash of its request: the model's immutable id, the kind of request and its body. It is
committed before the next request is counted as done, so a kill loses at most the requests in flight.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from training.artifacts.errors import UserError

VERSION = 1  # of what is kept: another one asks again


class Cache:
    """The answers of one model. Use as `with Cache(path) as cache`; all calls from one thread."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Open or make the file.

        Args:
            identity: what, beside a request, its answer depends on: the model's id, filters.

        Raises:
            UserError: the file is damaged.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._salt = json.dumps({"version": VERSION, **identity}, sort_keys=True).encode()
        self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            # The answers survive a killed process; only a machine that loses power may lose the last ones.
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute("CREATE TABLE IF NOT EXISTS answers (request BLOB PRIMARY KEY, answer TEXT)")
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path} is damaged ({error}): delete it, and the answers in it are asked again") from None
        self.hits = 0

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def key(self, kind: str, request: Any) -> bytes:
        """Hash of a request."""
        body = json.dumps([kind, request], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(self._salt + body.encode("utf-8", "surrogatepass")).digest()

    def get(self, key: bytes) -> Any | None:
        """The answer to a request, None when it was never answered."""
        row = self._connection.execute("SELECT answer FROM answers WHERE request = ?", (key,)).fetchone()
        if row is None:
            return None
        self.hits += 1
        return json.loads(row[0])

    def put(self, key: bytes, answer: Any) -> None:
        """Keep the answer to a request."""
        self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))
