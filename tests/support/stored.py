"""Checks of checkpoints in a store."""

from __future__ import annotations

from training.artifacts.checkpoints import Checkpoint
from training.artifacts.files import sha256_file


def assert_weights_match(checkpoint: Checkpoint) -> None:
    """Every weight file has the hash that the manifest records, and there is at least one."""
    weights = checkpoint.manifest.weights
    assert weights
    assert {name: sha256_file(checkpoint.path / name) for name in weights} == weights
