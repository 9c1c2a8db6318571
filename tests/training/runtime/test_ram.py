"""Folders in memory: where they are, that they go, and that those of live processes stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.runtime import ram

pytestmark = pytest.mark.unit


def test_it_is_in_memory_where_there_is_room_and_else_in_the_spare_place(tmp_path: Path) -> None:
    small, large = ram.Ram("test", 1000, tmp_path), ram.Ram("test", 2**60, tmp_path)
    assert small.folder.is_dir()
    assert small.folder.parent == (ram.SHARED_MEMORY if ram.has_room(ram.SHARED_MEMORY, 1000) else tmp_path)
    assert large.folder.parent == tmp_path
    for one in (small, large):
        one.close()
        assert not one.folder.exists()


def test_what_a_dead_process_left_is_deleted_and_what_a_live_one_holds_is_not(tmp_path: Path) -> None:
    left, other = tmp_path / f"{ram.PREFIX}rollouts-1", tmp_path / "somebody-else"
    for folder in (left, other):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x")
    live = ram.Ram("rollouts", 2**60, tmp_path)
    ram.sweep(tmp_path)
    assert not left.exists()
    assert live.folder.is_dir()
    assert other.is_dir()
    live.close()
