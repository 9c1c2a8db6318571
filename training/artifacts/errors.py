"""Errors that speak to the operator, and how commands end."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import sys
from collections.abc import Callable

from training.artifacts.text import STEERING

# What the system says of a place that a command was told to write to or read from; any other OSError is a bug.
OF_PLACE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
}


class UserError(Exception):
    """A mistake that the operator can correct. The message is one sentence that names the fix."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop, as Ctrl-C does.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command's `main` and turn its result or exception into an exit status.

    Returns:
        main's own status (None counts as 0); 2 after a `UserError`, or where a disk is full or a place cannot be used,
        printed as one line; 130 after Ctrl-C, 128 + number after another signal that stopped it in order, as shells
        count; 141 in silence where the reader of the output has left, as `head` does. Any other exception is a bug and
        keeps its traceback.
    """
    try:
        return _flushed(main)
    except UserError as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        _drop_unwritten()
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return 128 + signal.SIGPIPE
        if error.errno not in OF_PLACE:
            raise
        place = "" if error.filename is None else f"{_line(error.filename)}: "
        print(f"error: {place}{error.strerror}: make room, or name another place", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print("stopped, no partial files left: run the same command to resume", file=sys.stderr)
        return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)


def _line(words: object) -> str:
    """Words as one line that steers no terminal."""
    return re.sub(STEERING, "\ufffd", " ".join(str(words).split()))


def _flushed(main: Callable[[], int | None]) -> int:
    """`main`'s status, with its output written: at the interpreter's end nobody can catch what that raises."""
    try:
        status = main() or 0
    except SystemExit:  # of argparse, after --help
        print(end="", flush=True)
        raise
    print(end="", flush=True)  # `sys.stdout` is None where a shell closed it
    return status


def _drop_unwritten() -> None:
    """Throw away output that cannot be written: at its end the interpreter would try again, and fail."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reader_has_left() -> bool:
    """Whether nobody reads the standard output any more."""
    if sys.__stdout__ is None:  # closed from the start
        return False
    poll = select.poll()
    poll.register(sys.__stdout__.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))
