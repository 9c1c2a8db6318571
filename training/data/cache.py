"""Arrays in memory-mapped files under HOME/cache, kept by a hash of everything that shapes them.

A cache is a folder that is written under a temporary name and renamed when it is whole: a process that dies leaves
nothing that passes for whole, and of two processes that write the same one, the first to end wins. Nothing in it is
precious: any folder of HOME/cache may be deleted while no command runs, and `make clean` deletes all of them. A
folder's time of change is that of its last use, so `find runs/cache -mindepth 1 -maxdepth 1 -mtime +30` names the
old ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from training.artifacts.files import make_folder, to_disk

FORMAT = 1  # of the files here; another one never reads the caches of this
FACTS = "facts.json"
PARTIAL = ".partial-"
ABANDONED_SECONDS = 60.0  # a younger unfinished folder may be about to take its lock


class Cached(NamedTuple):
    """The arrays of a cache, memory-mapped read-only, and the facts that were written beside them."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]

    def array(self, name: str, dtype: Any) -> np.ndarray:
        """One array; an empty one of this type where nothing was ever appended to it."""
        return self.arrays.get(name, np.empty(0, dtype=dtype))


class Writer:
    """Appends to the arrays of a new cache, so that none of them is ever held in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self._types: dict[str, np.dtype[Any]] = {}

    def append(self, name: str, values: Sequence[Any] | np.ndarray, dtype: Any) -> None:
        """Add values at the end of a one-dimensional array. The first call decides its type."""
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.bin").open("wb")
            self._types[name] = np.dtype(dtype)
        self._files[name].write(np.ascontiguousarray(values, dtype=self._types[name]).tobytes())

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Flush every array to the disk, then write what a reader needs to know of them."""
        arrays = {}
        for name, file in self._files.items():
            arrays[name] = {"dtype": self._types[name].str, "bytes": file.tell()}
            to_disk(file)
        with (self._folder / FACTS).open("wb") as file:
            file.write(json.dumps({"arrays": arrays, "facts": facts}).encode())
            to_disk(file)

    def close(self) -> None:
        """Close the files, whole or not."""
        for file in self._files.values():
            file.close()


def cached(home: Path, key: Mapping[str, Any], build: Callable[[Writer], Mapping[str, Any]]) -> Cached:
    """The arrays that `build` writes, from the cache where it holds them.

    Args:
        home: the arrays lie in `home`/cache.
        key: everything that shapes them, as JSON values: hashes of contents rather than names of files.
        build: appends to the arrays and returns the facts kept beside them, as JSON values. An exception in it
            leaves no cache.
    """
    store = home / "cache"
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()
    folder = store / digest[:32]
    opened = _opened(folder)
    if opened is not None:
        return opened
    make_folder(store)
    sweep(store)
    with _partial(store) as partial:
        with closing(Writer(partial)) as writer:
            writer.finish(build(writer))
        _move(partial, folder)
    opened = _opened(folder)
    if opened is None:
        raise RuntimeError(f"{folder} is not whole right after it was written")
    return opened


def sweep(store: Path) -> int:
    """Delete folders that a process left unfinished when it died: nobody holds their lock. Returns how many."""
    swept = 0
    for folder in store.glob(f"{PARTIAL}*"):
        try:
            if time.time() - folder.stat().st_mtime < ABANDONED_SECONDS:
                continue
            with (folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        except OSError:  # in use, or another process swept it first
            continue
    return swept


@contextmanager
def _partial(store: Path) -> Iterator[Path]:
    """A new folder to write into, locked for as long as this process writes; gone afterwards unless it was moved."""
    folder = store / f"{PARTIAL}{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _move(partial: Path, folder: Path) -> None:
    """Rename the finished folder into place, over a damaged one; where another process was first, its folder stays."""
    try:
        partial.rename(folder)
    except OSError:
        if _opened(folder) is not None:
            return
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _opened(folder: Path) -> Cached | None:
    """The arrays of a whole cache; None where there is none, or where a file of it is missing or cut."""
    try:
        written = json.loads((folder / FACTS).read_text())
        arrays = {name: _mapped(folder / f"{name}.bin", shape) for name, shape in written["arrays"].items()}
        os.utime(folder)
    except (OSError, ValueError):
        return None
    return Cached(arrays, written["facts"])


def _mapped(file: Path, shape: Mapping[str, Any]) -> np.ndarray:
    """One array of a cache. Raises `ValueError` where the file does not have the bytes that were written."""
    if file.stat().st_size != shape["bytes"]:
        raise ValueError(f"{file} was cut")
    if not shape["bytes"]:  # nothing can be mapped
        return np.empty(0, dtype=shape["dtype"])
    return np.memmap(file, dtype=shape["dtype"], mode="r").view(np.ndarray)  # views of a plain array cost less
