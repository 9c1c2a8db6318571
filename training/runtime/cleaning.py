"""`python -m training clean`: what stopped runs left behind, listed, and deleted on request."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from training.artifacts import checkpoints, progress
from training.artifacts.errors import UserError
from training.registry import pull
from training.runtime import locks, runs
from training.runtime.configuration import parse

DAY = 24 * 3600.0  # seconds
OTHER_MACHINE_SECONDS = 7 * DAY  # whether another machine works there cannot be seen: its traces must be this old


@dataclass(frozen=True)
class Config:
    """List what runs left that were stopped and not resumed: their states, and half-published checkpoints. Nothing is
    deleted without --yes, and nothing that a live process works on."""

    yes: bool = False
    """Delete what is listed. A run whose state is deleted begins at step 0."""
    days: float = 0.0
    """List only what nothing has changed in for so many days."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


class Leftover(NamedTuple):
    """A folder that no live process works in.

    Attributes:
        changed: time of its newest change, seconds since 1970.
        bytes: of its files together.
        lockable: whether the process that worked there held its lock.
    """

    path: Path
    what: str
    changed: float
    bytes: int
    lockable: bool


def clean(config: Config) -> list[Leftover]:
    """List what is left, and delete it where the configuration says so; what was listed."""
    if config.days < 0:
        raise UserError(f"--days {config.days} is below 0: use 0 or more")
    if not config.home.is_dir():
        raise UserError(f"{config.home} is not a folder: name the one that runs were written to with --home")
    leftovers = [one for one in find(config.home) if time.time() - one.changed >= config.days * DAY]
    deleted = 0
    for one in progress.track(leftovers, "deleting") if config.yes else leftovers:
        gone = config.yes and delete(one)
        deleted += gone
        age = progress.clock(time.time() - one.changed)
        state = "deleted" if gone else "in use again, left alone" if config.yes else f"unchanged for {age}"
        line = f"{one.path}: {one.what}, {one.bytes / 1e6:,.1f} MB, {state}"
        runs.CONSOLE.print(line, highlight=False, markup=False)
    total = sum(one.bytes for one in leftovers) / 1e6
    end = f"{deleted} deleted" if config.yes else "--yes deletes them" if leftovers else "nothing to delete"
    runs.CONSOLE.print(f"{len(leftovers)} left over, {total:,.1f} MB: {end}", highlight=False)
    return leftovers


def find(home: Path) -> list[Leftover]:
    """Folders of stopped runs and turns, and of checkpoints that were never published, oldest first."""
    return sorted([*_runs(home), *_turns(home), *_staged(home), *_pulled(home)], key=lambda one: one.changed)


def delete(leftover: Leftover) -> bool:
    """Delete a folder, unless a process has begun to work in it since; whether it is gone."""
    if not leftover.lockable:
        shutil.rmtree(leftover.path, ignore_errors=True)
        return not leftover.path.exists()
    lock = locks.try_lock(leftover.path)
    if lock is None:
        return False
    with lock:
        # Renamed first: a run that begins meanwhile makes a folder of its own, from which nothing is deleted.
        aside = leftover.path.rename(leftover.path.with_name(f".{leftover.path.name}.deleted"))
        shutil.rmtree(aside, ignore_errors=True)
    return not aside.exists()


def _runs(home: Path) -> Iterator[Leftover]:
    for folder in _folders(home / "work"):
        one = _leftover(folder, f"state of a stopped run of {folder.name.rpartition('-')[0] or 'a stage'}")
        if not (folder / runs.STATE).is_file():
            one = one._replace(what="a run that was stopped before it saved a state")
        if (folder / runs.NOT_FINITE).is_file():
            one = one._replace(what=f"{one.what} (a figure was not finite: {runs.NOT_FINITE})")
        if _is_over(one):
            yield one


def _turns(home: Path) -> Iterator[Leftover]:
    for folder in _folders(home / "turns"):
        one = _leftover(folder, "a turn of the loop that was stopped")
        if folder.name.startswith("unfinished-") and _is_over(one):
            yield one


def _staged(home: Path) -> Iterator[Leftover]:
    for folder in checkpoints.left_over(home / "checkpoints"):
        yield _leftover(folder, "a checkpoint that was never published")._replace(lockable=False)


def _pulled(home: Path) -> Iterator[Leftover]:
    for folder in _folders(home / "checkpoints"):
        if folder.name.startswith(pull.PREFIX) and _is_over(one := _leftover(folder, "a pull that was stopped")):
            yield one


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _leftover(folder: Path, what: str) -> Leftover:
    changed, size = folder.stat().st_mtime, 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # deleted meanwhile
            entry = path.stat()
            changed, size = max(changed, entry.st_mtime), size + entry.st_size
    return Leftover(folder, what, changed, size, lockable=True)


def _is_over(leftover: Leftover) -> bool:
    """Whether no process works in a folder. Locks of other machines may not be seen: their folders must be old."""
    if locks.is_locked(leftover.path):
        return False
    machine = runs.about(leftover.path).get("machine", runs.machine_name())
    return bool(machine == runs.machine_name()) or time.time() - leftover.changed > OTHER_MACHINE_SECONDS


def main(arguments: Sequence[str]) -> int:
    """`python -m training clean`."""
    clean(parse(Config, "clean", arguments))
    return 0
