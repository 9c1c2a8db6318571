"""Child commands that end with their parent, however the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from training.artifacts import machine
from training.artifacts.errors import UserError
from training.artifacts.files import make_folder

# Exit statuses of `python -m evals.run` that are a verdict: PASS, FAIL, INCONCLUSIVE.
DECIDED = (0, 1, 3)
GRACE = 30.0  # seconds between SIGINT and SIGKILL: enough to write a stage's state or to stop an engine
_PR_SET_PDEATHSIG = 1


def start(
    arguments: Sequence[str],
    *,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    capture: bool = False,
    feed: bool = False,
) -> subprocess.Popen[str]:
    """Start `python -m ARGUMENTS`.

    The child gets SIGTERM when this process dies, even by SIGKILL (Linux).

    Args:
        arguments: module and its arguments, such as ["training", "sft"].
        log: file for its output; None leaves it on the terminal.
        environment: added to this process's own.
        capture: pipe standard output to the caller; only standard error (progress bars) goes to log or terminal.
        feed: pipe standard input from the caller; else there is none.
    """
    stream: IO[bytes] | None = None
    if log is not None:
        make_folder(log.parent)
        stream = log.open("wb")
    try:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=subprocess.PIPE if capture else stream,
            stderr=stream if stream is not None else None,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            text=True,
            # A group of its own: Ctrl-C reaches this process alone, which then ends its children in order.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    finally:
        if stream is not None:
            stream.close()


def finish(process: subprocess.Popen[str], name: str, log: Path | None = None, accepted: Collection[int] = (0,)) -> str:
    """Wait for a child and return what it wrote to a captured standard output.

    Args:
        accepted: exit statuses that do not count as a failure.

    Raises:
        UserError: it failed; the message names the log, or points to the output above.
    """
    try:
        output, _ = process.communicate()
    except BaseException:
        stop(process)
        raise
    if process.returncode not in accepted:
        where = f"see {log}" if log else "see the message above"
        raise UserError(f"{name} ended with status {process.returncode}: {where}")
    return output or ""


def stop(process: subprocess.Popen[str], grace: float = GRACE) -> None:
    """End a child and everything in its group: SIGINT first, SIGKILL after `grace` seconds."""
    if process.poll() is not None:
        return
    _signal(process, signal.SIGINT)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


# For a command that works beside engines, which keep the cores busy (see `shared_cores`).
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def shared_cores(commands: int) -> dict[str, str] | None:
    """Environment of each of several commands that run at once: an even share of the cores; None for one alone.

    Threads of one command wait for each other at every matrix product. With more threads than cores each waits for
    its next time slice too: measured, two commands of two threads on two cores are ten times slower than of one.
    """
    return None if commands < 2 else {"OMP_NUM_THREADS": str(max(1, machine.cores() // commands))}


def _signal(process: subprocess.Popen[str], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def die_with_parent() -> None:
    """In a child before it begins: it gets SIGTERM when its parent ends, however that ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
