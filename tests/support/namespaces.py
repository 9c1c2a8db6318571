"""Linux network namespaces as machines of their own, each joined to this one by a cable (a veth pair)."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

NUMBERS = itertools.count()


@dataclass(frozen=True)
class Namespace:
    """A network namespace of this machine.

    Attributes:
        name: as `ip netns` lists it.
        address: its IPv4 address, which this machine reaches.
        cable: this machine's end.
    """

    name: str
    address: str
    cable: str

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """A process inside."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)

    def unplug(self) -> None:
        """From now on nothing arrives, and nobody is told."""
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self.cable, "up")


def why_not() -> str | None:
    """Why this machine makes no namespaces; None where it does."""
    if shutil.which("ip") is None:
        return "no `ip` (Debian: iproute2)"
    name = f"al-try-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if done.returncode:
        return f"no network namespaces: {done.stderr.strip()}"
    _ip("netns", "del", name)
    return None


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Make one; at the end it goes, with what still runs in it."""
    number = next(NUMBERS)
    name, cable = f"al-{os.getpid()}-{number}", f"al{os.getpid() % 10**7}v{number}"
    net = f"10.{100 + os.getpid() % 100}.{number}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("addr", "add", f"{net}.1/24", "dev", cable)
        _ip("link", "set", cable, "up")
        for arguments in (
            ["addr", "add", f"{net}.2/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
        ):
            _ip("-n", name, *arguments)
        yield Namespace(name, f"{net}.2", cable)
    finally:
        inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
        for process in inside:
            with suppress(ProcessLookupError):
                os.kill(int(process), 9)
        _ip("netns", "del", name)  # the cable goes with its end


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
