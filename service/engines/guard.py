"""Runs one command and takes its whole process group down when the parent is gone, even by SIGKILL.

A script of its own, run with `python -I`: it must start at once and hold little memory. The parent keeps the
write end of a pipe open; the pipe's end-of-file is the news of its death, on every system with pipes.

Usage: guard.py PIPE_FD COMMAND ...
"""

import os
import select
import signal
import subprocess
import sys


def main() -> int:
    pipe, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(pipe, False)
    # SIGTERM is for the command, which drains and exits; this process only waits for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    ended, wake = os.pipe()
    signal.signal(signal.SIGCHLD, lambda *_: os.write(wake, b"."))
    # Not `select`: it takes no number above 1023, and a gateway with many connections passes a higher one.
    watch = select.poll()
    watch.register(pipe, select.POLLIN)  # the end-of-file too; POLLHUP needs no asking
    watch.register(ended, select.POLLIN)
    while child.poll() is None:
        ready = {descriptor for descriptor, _ in watch.poll(5000)}
        if pipe in ready:
            break
        if ended in ready:
            os.read(ended, 512)  # a child that is only stopped tells so too: what is not read would wake this for ever
    # The command's own children (engine core, workers) are in this group too, and so is this process.
    os.killpg(0, signal.SIGKILL) if child.poll() is None else _end_the_rest()
    return child.returncode


def _end_the_rest() -> None:
    """The command ended by itself: end what it may have left in the group, then report its status."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
