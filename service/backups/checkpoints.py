"""Copies of published checkpoints: whole and unchanged, or not there."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from training.artifacts import checkpoints, progress
from training.artifacts.checkpoints import MANIFEST, Checkpoint
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file

BLOCK = 2**20


def copy_missing(store: Path, target: Path, title: str) -> dict[str, str]:
    """Copy every checkpoint of `store` that `target` does not have. Checkpoints never change, so the others are done.

    Returns:
        sha256 of each checkpoint's manifest by id, the copied ones and those that were there.

    Raises:
        UserError: weights are not those of their manifest, or `target` has another checkpoint of the same id.
    """
    target.mkdir(parents=True, exist_ok=True)
    checkpoints.sweep(target)  # what a killed run left
    all_of_store = list(checkpoints.checkpoints(store)) if store.is_dir() else []
    with progress.bar(title, len(all_of_store)) as bar:
        for checkpoint in all_of_store:
            bar.note(checkpoint.id)
            _copy(checkpoint, target)
            bar.advance()
    return {checkpoint.id: sha256_file(checkpoint.path / MANIFEST) for checkpoint in all_of_store}


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
        staged.rename(final)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _copy_file(source: Path, target: Path) -> str:
    """Copy a file with its times; sha256 of what was read."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(BLOCK):
            digest.update(block)
            writing.write(block)
    shutil.copystat(source, target)
    return digest.hexdigest()
