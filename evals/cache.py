"""Answers on disk, so that a run that ended early resumes, and none is paid for twice.

An answer is kept under the hash of its request: the model's immutable id, the kind of request and its body. It is
committed before the next request is counted as done, so a kill loses at most the requests in flight.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.files import make_folder

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
        make_folder(path.parent)
        self._salt = json.dumps({"version": VERSION, **identity}, sort_keys=True).encode()
        self._path = path
        self.hits = 0
        with self._faults():
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # The answers survive a killed process; only a machine that loses power may lose the last ones.
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute("CREATE TABLE IF NOT EXISTS answers (request BLOB PRIMARY KEY, answer TEXT)")

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
        with self._faults():
            row = self._connection.execute("SELECT answer FROM answers WHERE request = ?", (key,)).fetchone()
            if row is None:
                return None
            answer = json.loads(row[0])
        self.hits += 1
        return answer

    def put(self, key: bytes, answer: Any) -> None:
        """Keep the answer to a request."""
        with self._faults():
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """A file that cannot be used now as one line, whether it is damaged or there is no place for it."""
        try:
            yield
        except sqlite3.OperationalError as error:  # a full disk, a place that cannot be written to, a lock
            raise UserError(f"{self._path}: {error}: make room, or name another place by --home or --out") from None
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise UserError(
                f"{self._path} is damaged ({error}): delete it, and the answers in it are asked again"
            ) from None
