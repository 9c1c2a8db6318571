"""Folders of files that live in memory, and never outlive their process for long."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from training.runtime import locks

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "alignloop-"


class Ram:
    """A folder in memory, locked by this process; what killed processes left there is deleted first.

    Args:
        name: what it is for.
        size: bytes of the files that are in it at a time.
        spare: folder in which it is made where memory has no room for files (containers often give them 64 MB).

    Attributes:
        folder: where it is.
    """

    def __init__(self, name: str, size: int, spare: Path) -> None:
        parent = SHARED_MEMORY if has_room(SHARED_MEMORY, size) else spare
        sweep(parent)
        self.folder = parent / f"{PREFIX}{name}-{secrets.token_hex(8)}"
        self._lock = locks.try_lock(self.folder)

    def close(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def has_room(folder: Path, size: int) -> bool:
    """Whether a folder exists, may be written to, and has this many bytes free, and a tenth more."""
    try:
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > size * 1.1
    except OSError:
        return False


def sweep(parent: Path) -> None:
    """Delete folders of this kind whose process is gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        if folder.is_dir() and not locks.is_locked(folder):
            shutil.rmtree(folder, ignore_errors=True)
