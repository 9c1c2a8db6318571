"""Copies of published checkpoints: whole and unchanged, or not there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path

from training.artifacts import checkpoints, progress
from training.artifacts.checkpoints import MANIFEST, Checkpoint
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file, to_disk

BLOCK = 2**20


def copy_missing(store: Path, target: Path, title: str, only: Collection[str] | None = None) -> dict[str, str]:
    """Copy every checkpoint of `store` that `target` does not have. Checkpoints never change, so the others are done.

    Args:
        only: names of folders; by default all.

    Returns:
        `digest` of each checkpoint by the name of its folder, the copied ones and those that were there.

    Raises:
        UserError: weights are not those of their manifest, or `target` has another checkpoint of the same id.
    """
    target.mkdir(parents=True, exist_ok=True)
    checkpoints.sweep(target)  # what a killed run left
    all_of_store = list(checkpoints.checkpoints(store)) if store.is_dir() else []
    if only is not None:
        all_of_store = [one for one in all_of_store if one.path.name in only]
    with progress.bar(title, len(all_of_store)) as bar:
        for checkpoint in all_of_store:
            bar.note(checkpoint.id)
            _copy(checkpoint, target)
            bar.advance()
    return {checkpoint.path.name: digest(checkpoint) for checkpoint in all_of_store}


def digest(checkpoint: Checkpoint) -> str:
    """sha256 over the names and hashes of all files. Of weights it takes the hash that the manifest has: they are read
    when they are copied."""
    total = hashlib.sha256()
    for file in sorted(path for path in checkpoint.path.rglob("*") if path.is_file()):
        name = file.relative_to(checkpoint.path).as_posix()
        total.update(f"{name}\0{checkpoint.manifest.weights.get(name) or sha256_file(file)}\n".encode())
    return total.hexdigest()


def _copy(checkpoint: Checkpoint, target: Path) -> None:
    final = target / checkpoint.path.name
    if (final / MANIFEST).is_file():
        if (final / MANIFEST).read_bytes() != (checkpoint.path / MANIFEST).read_bytes():
            raise UserError(f"{final} is another checkpoint than {checkpoint.path}: use another folder")
        return
    staged = checkpoints.staging(target)
    try:
        for file in sorted(path for path in checkpoint.path.rglob("*") if path.is_file()):
            name = file.relative_to(checkpoint.path)
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            sha256, recorded = _copy_file(file, staged / name), checkpoint.manifest.weights.get(name.as_posix())
            if recorded is not None and sha256 != recorded:
                raise UserError(f"{file} is damaged: its sha256 is not the manifest's; delete {checkpoint.path}")
        missing = [name for name in checkpoint.manifest.weights if not (staged / name).is_file()]
        if missing:
            raise UserError(f"{checkpoint.path} has no {missing[0]}, which its manifest names: delete it")
        _rename(staged, final, checkpoint)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _rename(staged: Path, final: Path, checkpoint: Checkpoint) -> None:
    try:
        staged.rename(final)
    except OSError:
        if not (final / MANIFEST).is_file():
            raise
        shutil.rmtree(staged, ignore_errors=True)  # another backup at the same time was faster
        _copy(checkpoint, final.parent)  # compares it


def _copy_file(source: Path, target: Path) -> str:
    """Copy a file with its times; sha256 of what was read."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(BLOCK):
            digest.update(block)
            writing.write(block)
        to_disk(writing)
    shutil.copystat(source, target)
    return digest.hexdigest()
