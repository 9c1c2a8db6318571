"""What an engine's processes do, as the system sees it: processor time, and whether they are stopped."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Activity:
    """One reading.

    Attributes:
        server: processor seconds of the process that answers requests.
        core: processor seconds of those that compute for it.
        cores: how many compute for it; none is left where they died.
        runs: whether one of those that compute has work now; on a full machine it may get little of a processor.
        stopped: whether one of them is stopped (SIGSTOP), and does nothing until it is continued.
    """

    server: float
    core: float
    cores: int
    runs: bool
    stopped: bool


def read(guard: int) -> Activity:
    """Of the engine that a guard's process id stands for; what has ended counts as nothing."""
    servers = _children(guard)
    cores = [core for server in servers for core in _children(server.pid, all_below=True)]
    states = [_state(process) for process in (*servers, *cores)]
    computing = states[len(servers) :]
    return Activity(
        server=sum(map(_seconds, servers)),
        core=sum(map(_seconds, cores)),
        cores=sum(state not in ("", psutil.STATUS_ZOMBIE) for state in computing),
        runs=any(state in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP) for state in computing),
        stopped=psutil.STATUS_STOPPED in states,
    )


def _children(process: int, *, all_below: bool = False) -> list[psutil.Process]:
    with suppress(psutil.Error):
        children: list[psutil.Process] = psutil.Process(process).children(recursive=all_below)
        return children
    return []


def _seconds(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _state(process: psutil.Process) -> str:
    """Empty for one that has just ended."""
    with suppress(psutil.Error):
        return str(process.status())
    return ""
