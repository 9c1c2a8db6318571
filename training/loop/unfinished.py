"""What a turn of the loop has done so far, kept in a file, so that the same command continues it after a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from training.artifacts import checkpoints
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file, write_atomically
from training.runtime import locks


class Unfinished:
    """The facts of a turn: its frozen rankings, what it is compared with, the checkpoints of its finished stages. Used
    as `with Unfinished(...) as unfinished:`, it is one process's own meanwhile.

    Rankings that people add meanwhile are for the next turn: else each of them would make all training done so far
    useless.

    Args:
        home: folder that everything is written to; the file is in HOME/turns.
        settings: what makes two commands the same turn.

    Raises:
        UserError: the same turn is in progress in another process, or its file cannot be read.
    """

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        text = json.dumps(dict(settings), sort_keys=True, default=str)
        self._store = home / "checkpoints"
        self.folder = home / "turns" / f"unfinished-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self.file = self.folder / "turn.json"
        self.facts: dict[str, Any] = {}
        self._lock: IO[str] | None = None

    def __enter__(self) -> Unfinished:
        self._lock = locks.try_lock(self.folder)
        if self._lock is None:
            raise UserError(f"this turn is already in progress in another process: wait for it ({self.folder})")
        self.facts = _read(self.file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not self.facts:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def __contains__(self, name: str) -> bool:
        return name in self.facts

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]

    def remember(self, **facts: Any) -> None:
        """Add facts, and write all of them to the file."""
        self.facts |= facts
        write_atomically(self.file, json.dumps(self.facts, indent=2) + "\n")

    def checkpoints_of(self, stage: str) -> dict[str, str]:
        """Ids of what a stage has published for this turn, by the names of its runs, as far as they are still there."""
        results: dict[str, str] = self.facts.get("results", {}).get(stage, {})
        return {n: c for n, c in results.items() if (self._store / c / checkpoints.MANIFEST).is_file()}

    def add_checkpoint(self, stage: str, name: str, checkpoint: str) -> None:
        """Remember what a run of a stage has published."""
        results = self.facts.get("results", {})
        self.remember(results={**results, stage: {**results.get(stage, {}), name: checkpoint}})

    def remember_data(self, files: Mapping[str, Path]) -> None:
        """Remember the files that the turn is trained on, and what they hold."""
        self.remember(data={name: {"file": str(file), "sha256": sha256_file(file)} for name, file in files.items()})

    def data(self) -> dict[str, Path]:
        """The files that the turn is trained on.

        Raises:
            UserError: one is gone, or holds something else than when it was frozen.
        """
        files = {name: Path(facts["file"]) for name, facts in self.facts["data"].items()}
        for name, file in files.items():
            if not file.is_file() or sha256_file(file) != self.facts["data"][name]["sha256"]:
                raise UserError(
                    f"{file} is not what this turn began with: restore it, or begin the turn anew with --fresh"
                )
        return files

    def forget(self) -> None:
        """Delete the file: the turn begins anew."""
        self.facts = {}
        self.file.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_bytes())
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise UserError(f"{file} cannot be read: delete it, and the turn begins anew")
    return facts
