"""Locks of folders: one process at a time works in a folder, and a dead process holds no lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from training.artifacts.files import make_folder

NAME = "lock"


def try_lock(folder: Path) -> IO[str] | None:
    """The open file that holds the lock of a folder, which is made; None while another process holds it.

    The lock ends with the file's `close`, or with the process.
    """
    while True:
        make_folder(folder)
        file = (folder / NAME).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        if _is_there(file, folder / NAME):
            return file
        file.close()  # its folder was deleted between the two lines above: lock the one that is there now


def is_locked(folder: Path) -> bool:
    """Whether a live process holds the lock of a folder. Makes nothing."""
    try:
        with (folder / NAME).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _is_there(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
