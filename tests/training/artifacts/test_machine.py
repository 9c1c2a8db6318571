"""Cores and memory come from the affinity, the cgroup (both versions) and the kernel, whichever allows least."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training.artifacts import machine

pytestmark = pytest.mark.unit
MEMINFO = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "meminfo").write_text(MEMINFO)
    return folder


def cgroup(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    return root / "cgroup"


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 3),  # 2.5 cores: three threads can run for a while
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "nonsense\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert machine.cores(cgroup(tmp_path, files), tmp_path) == expected


def test_the_limits_of_a_group_within_the_tree_hold(tmp_path: Path, proc: Path) -> None:
    """As on a machine without containers, where a service manager puts each service into a group."""
    (proc / "self").mkdir()
    (proc / "self" / "cgroup").write_text("0::/system.slice/loop.service\n")
    limits = {
        "system.slice/memory.max": "9000", "system.slice/memory.current": "8500",
        "system.slice/loop.service/memory.max": "1000", "system.slice/loop.service/memory.current": "100",
        "system.slice/loop.service/cpu.max": "100000 100000",
    }  # fmt: skip
    root = cgroup(tmp_path, limits)
    assert machine.memory(root, proc) == 500
    assert machine.cores(root, proc) == 1


def test_an_affinity_of_one_core_is_one_core(tmp_path: Path) -> None:
    whole = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(whole)})
        assert machine.cores(tmp_path, tmp_path) == 1
    finally:
        os.sched_setaffinity(0, whole)


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, 20_000_000 * 1024),
        ({"memory.max": "max\n", "memory.current": "5\n"}, 20_000_000 * 1024),
        # 1000 allowed, 700 used, of which 300 are files' pages that the kernel drops when memory is short
        ({"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 9\ninactive_file 300\n"}, 600),
        ({"memory.max": "1000", "memory.current": "1200"}, 0),
        ({"memory/memory.limit_in_bytes": "5000", "memory/memory.usage_in_bytes": "1000"}, 4000),
        (
            {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1000"},
            20_000_000 * 1024,
        ),
    ],
)
def test_memory(tmp_path: Path, proc: Path, files: dict[str, str], expected: int) -> None:
    assert machine.memory(cgroup(tmp_path, files), proc) == expected
