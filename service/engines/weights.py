"""Whether a checkpoint's weights are those that were published."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from service.engines.failures import Permanent
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.files import sha256_file


def check_present(checkpoint: Checkpoint) -> None:
    """Raise `Permanent` when a weight file is missing."""
    for name in checkpoint.manifest.weights:
        if not (checkpoint.path / name).is_file():
            raise Permanent(f"{checkpoint.id} lacks its weights {name}: copy the folder whole, or publish it again")


def check_hashes(checkpoint: Checkpoint) -> None:
    """Raise `Permanent` when a weight file is missing, or is not the one whose sha256 the manifest has."""
    check_present(checkpoint)
    for name, expected in checkpoint.manifest.weights.items():
        file = checkpoint.path / name
        state = file.stat()
        if _sha256(file, state.st_size, state.st_mtime_ns, state.st_ino) != expected:
            raise Permanent(
                f"{checkpoint.id}: {name} is not the file that was published (its sha256 differs): restore it, or "
                "publish the checkpoint again"
            )


@lru_cache(maxsize=256)
def _sha256(file: Path, size: int, changed: int, inode: int) -> str:
    """Read once per file and change: an engine that starts again must not read 100 GB again."""
    return sha256_file(file)
