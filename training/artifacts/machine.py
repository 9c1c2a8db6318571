"""What this process may use of the machine: cores and memory, by affinity, cgroup and the kernel's own count."""

from __future__ import annotations

import math
import os
import uuid
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")
UNLIMITED = 2**60  # version 1 of cgroups writes a number near 2**63 for "no limit"


def cores(cgroup: Path = CGROUP, proc: Path = PROC) -> int:
    """Cores that this process may use: its affinity, or the CPU quota of its cgroup where that is less; at least 1."""
    quotas = [math.ceil(quota) for folder in _groups(cgroup, proc) if (quota := _cpu_quota(folder)) is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def memory(cgroup: Path = CGROUP, proc: Path = PROC) -> int:
    """Bytes that this process and its children may still take: what the kernel calls available, or what the cgroup's
    limit leaves where that is less."""
    available = _meminfo(proc)
    left = [limit - used for folder in _groups(cgroup, proc) for limit, used in _memory_limits(folder)]
    return max(0, min([available, *left]))


@cache
def boot_id(proc: Path = PROC) -> str:
    """One value per start of this machine (or of this container's host): process ids are unique within it."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
    except OSError:
        return f"{uuid.getnode():012x}"


@cache
def pid_namespace(proc: Path = PROC) -> str:
    """The namespace that this process's id belongs to: containers of one host count their processes each on its own."""
    try:
        return (proc / "self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        return "0"


def _groups(cgroup: Path, proc: Path) -> list[Path]:
    """The root of the cgroups and, in version 2, the groups from there to this process's own: each may set a limit."""
    own = [line[3:] for line in _text(proc / "self/cgroup").splitlines() if line.startswith("0::/")]
    parts = Path(own[0]).parts[1:] if own else ()
    return [cgroup.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _cpu_quota(cgroup: Path) -> float | None:
    """Cores of CPU time per second, None without a limit; version 2 of cgroups, then version 1."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        quota, period = _text(cgroup / "cpu/cpu.cfs_quota_us"), _text(cgroup / "cpu/cpu.cfs_period_us")
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _memory_limits(cgroup: Path) -> list[tuple[int, int]]:
    """(limit, use) in bytes, use without the page cache that the kernel can drop."""
    files = (
        (cgroup / "memory.max", cgroup / "memory.current", cgroup / "memory.stat", "inactive_file"),
        (
            cgroup / "memory/memory.limit_in_bytes",
            cgroup / "memory/memory.usage_in_bytes",
            cgroup / "memory/memory.stat",
            "total_inactive_file",
        ),
    )
    limits = []
    for limit_file, use_file, statistics, cache_name in files:
        try:
            limit, used = int(_text(limit_file)), int(_text(use_file))
        except ValueError:  # no such file, or "max"
            continue
        droppable = [line.split()[1] for line in _text(statistics).splitlines() if line.startswith(f"{cache_name} ")]
        if limit < UNLIMITED:
            limits.append((limit, max(0, used - sum(map(int, droppable)))))
    return limits


def _meminfo(proc: Path) -> int:
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
